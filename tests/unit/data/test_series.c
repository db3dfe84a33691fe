/* Reading and writing series files: what is refused and in which words, missing values by each rule, names, units and
 * time from every place they can stand, and that what was written is read back. */
#include "data_fixture.h"

#include <hdf5.h>
#include <hdf5_hl.h>
#include <sys/wait.h>

static double hill(int32_t s, int32_t t, int32_t c) {
    return 1 + s + 0.25 * t * (10 - t) + 100 * c;
}

static struct config config_for(const char *name) {
    struct config config = fixture_config();
    lvs_copy(config.data_file, sizeof config.data_file, fixture_path(name));
    return config;
}

/* Writes one dataset of any type and shape into `file`; values may be NULL (zeros). */
static hid_t add_dataset(hid_t file, const char *name, hid_t type, int rank, const hsize_t *sizes, hid_t memory_type,
                         const void *values) {
    hid_t space = H5Screate_simple(rank, sizes, NULL);
    hid_t dataset = H5Dcreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(dataset >= 0);
    if (values) assert_true(H5Dwrite(dataset, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
    H5Sclose(space);
    return dataset;
}

static hid_t new_file(const char *name) {
    hid_t file = H5Fcreate(fixture_path(name), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(file >= 0);
    return file;
}

/* A file with one dataset /data of doubles. */
static void write_cube(const char *name, hsize_t n_series, hsize_t n_time, hsize_t n_channel, const double *values) {
    hid_t file = new_file(name);
    const hsize_t sizes[] = {n_series, n_time, n_channel};
    H5Dclose(add_dataset(file, "data", H5T_IEEE_F64LE, 3, sizes, H5T_NATIVE_DOUBLE, values));
    H5Fclose(file);
}

static void check_refused(const struct config *config, enum lvs_status status, const char *words) {
    struct series_set set;
    assert_fails(series_read(config, &set, &fixture_error), status, words);
    assert_null(set.values);
    assert_null(set.time);
    assert_null(set.id);
}

/* ---- what is no data file ---- */

static void test_no_hdf5(void **state) {
    (void)state;
    struct config config = config_for("absent.h5");
    check_refused(&config, LVS_INPUT, "absent.h5: no such file");
    lvs_copy(config.data_file, sizeof config.data_file, fixture_folder);
    check_refused(&config, LVS_INPUT, "is a folder");
    fixture_write("table.csv", "site,year,count\n1,2,3\n");
    config = config_for("table.csv");
    check_refused(&config, LVS_INPUT, "not an HDF5 file");
    fixture_write("empty.h5", "");
    config = config_for("empty.h5");
    check_refused(&config, LVS_INPUT, "not an HDF5 file");
}

/* Every length of a whole file: refused in words or, when only the values' tail is gone, still never a crash. */
static void test_truncated(void **state) {
    (void)state;
    struct series_set set = fixture_set(20, 11, 2, hill);
    assert_ok(series_write(fixture_path("whole.h5"), &set, &fixture_error));
    series_free(&set);
    char *bytes;
    size_t length;
    assert_ok(file_read(fixture_path("whole.h5"), 1 << 24, &bytes, &length, &fixture_error));
    struct config config = config_for("cut.h5");
    int32_t refused = 0, tried = 0;
    for (size_t kept = 0; kept < length; kept += 97) {
        FILE *file = fopen(fixture_path("cut.h5"), "wb");
        assert_int_equal(fwrite(bytes, 1, kept, file), kept);
        fclose(file);
        tried++;
        refused += series_read(&config, &set, &fixture_error) == LVS_INPUT;
    }
    assert_int_equal(refused, tried);
    check_refused(&config, LVS_INPUT, "truncated or damaged");
    free(bytes);
}

/* Reads the file with one byte flipped at every 53rd place; returns how many were refused. */
static int32_t read_flipped(char *bytes, size_t length, int32_t *tried) {
    struct config config = config_for("flipped.h5");
    int32_t refused = 0;
    for (size_t at = 0; at < length; at += 53, ++*tried) {
        bytes[at] = (char)(bytes[at] ^ 0xa5);
        FILE *file = fopen(fixture_path("flipped.h5"), "wb");
        assert_int_equal(fwrite(bytes, 1, length, file), length);
        fclose(file);
        bytes[at] = (char)(bytes[at] ^ 0xa5);
        struct series_set set;
        if (series_read(&config, &set, &fixture_error) == LVS_OK)
            series_free(&set);
        else
            refused++;
    }
    return refused;
}

/* No flipped byte may crash the reader; most are in values and change nothing else. In a child that leaves by _exit:
 * HDF5 1.10 keeps memory of its own after refusing some of these files. */
static void test_damaged(void **state) {
    (void)state;
    char *bytes;
    size_t length;
    assert_ok(file_read(fixture_path("whole.h5"), 1 << 24, &bytes, &length, &fixture_error));
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        int32_t tried = 0, refused = read_flipped(bytes, length, &tried);
        _exit(refused > 0 && refused < tried ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    free(bytes);
}

static void test_wrong_datasets(void **state) {
    (void)state;
    const hsize_t cube[] = {3, 11, 2}, square[] = {3, 11}, line[] = {11};
    hid_t file = new_file("many.h5");
    H5Fclose(file);
    struct config config = config_for("many.h5");
    check_refused(&config, LVS_INPUT, "it holds no dataset");

    file = new_file("many.h5");
    H5Dclose(add_dataset(file, "time", H5T_IEEE_F64LE, 1, line, H5T_NATIVE_DOUBLE, NULL));
    H5Dclose(add_dataset(file, "counts", H5T_STD_I32LE, 3, cube, H5T_NATIVE_INT, NULL));
    H5Dclose(add_dataset(file, "table", H5T_IEEE_F32LE, 2, square, H5T_NATIVE_DOUBLE, NULL));
    H5Fclose(file);
    check_refused(&config, LVS_INPUT, "no three-dimensional float dataset");
    assert_non_null(strstr(fixture_error.text, "/counts int32 (3, 11, 2), /table float32 (3, 11), /time float64 (11)"));
    strcpy(config.dataset, "nothing");
    check_refused(&config, LVS_INPUT, "no dataset /nothing");
    assert_non_null(strstr(fixture_error.text, "/table float32"));
    strcpy(config.dataset, "table");
    check_refused(&config, LVS_INPUT, "/table float32 (3, 11); three dimensions are needed");
    strcpy(config.dataset, "/counts");
    check_refused(&config, LVS_INPUT, "/counts int32 (3, 11, 2); float32 or float64 values are needed");

    file = new_file("many.h5");
    hid_t group = H5Gcreate2(file, "runs", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Dclose(add_dataset(group, "one", H5T_IEEE_F64LE, 3, cube, H5T_NATIVE_DOUBLE, NULL));
    H5Dclose(add_dataset(group, "two", H5T_IEEE_F32LE, 3, cube, H5T_NATIVE_DOUBLE, NULL));
    H5Gclose(group);
    H5Fclose(file);
    config.dataset[0] = '\0';
    check_refused(&config, LVS_INPUT, "2 three-dimensional float datasets (/runs/one, /runs/two); choose one");
    strcpy(config.dataset, "runs");
    check_refused(&config, LVS_INPUT, "no dataset /runs");
}

static void test_wrong_sizes(void **state) {
    (void)state;
    struct config config = config_for("sizes.h5");
    static const struct {
        hsize_t sizes[3];
        const char *words;
    } cases[] = {
        {{0, 11, 2}, "/data holds no series"},
        {{3, 11, 9}, "has 9 channels (its third dimension); 1 to 8 are allowed"},
        {{3, 11, 0}, "has 0 channels"},
        {{3, 3, 2}, "has 3 time points a series (its second dimension); at least 4"},
    };
    for (int32_t i = 0; i < COUNT_OF(cases); i++) {
        write_cube("sizes.h5", cases[i].sizes[0], cases[i].sizes[1], cases[i].sizes[2], NULL);
        check_refused(&config, LVS_INPUT, cases[i].words);
    }
}

/* Declared sizes cost nothing in a file: nothing is allocated for them before the check. */
static void test_hostile_sizes(void **state) {
    (void)state;
    struct config config = config_for("huge.h5");
    const hsize_t cases[][3] = {
        {(hsize_t)1 << 40, 11, 2}, {300000000, 100, 2}, {1000, (hsize_t)1 << 50, 1}, {(hsize_t)1 << 62, 4, 8}};
    for (int32_t i = 0; i < COUNT_OF(cases); i++) {
        hid_t file = new_file("huge.h5"), properties = H5Pcreate(H5P_DATASET_CREATE);
        const hsize_t chunk[] = {1, 4, 1};
        H5Pset_chunk(properties, 3, chunk);
        hid_t space = H5Screate_simple(3, cases[i], NULL);
        H5E_BEGIN_TRY {
            hid_t dataset = H5Dcreate2(file, "data", H5T_IEEE_F32LE, space, H5P_DEFAULT, properties, H5P_DEFAULT);
            assert_true(dataset >= 0 || i == 3);
            if (dataset >= 0) H5Dclose(dataset);
        }
        H5E_END_TRY;
        H5Sclose(space);
        H5Pclose(properties);
        H5Fclose(file);
        check_refused(&config, LVS_INPUT, i < 3 ? "at most 4 GiB (as float64) are read" : "huge.h5");
    }
    write_cube("huge.h5", 3, 11, 2, NULL);
    check_refused(&config, LVS_INPUT, "series 0 is constant (0 at every point; 3 such series of 3)");
}

/* Values kept outside the file are not followed. */
static void test_external_values(void **state) {
    (void)state;
    hid_t file = new_file("outside.h5"), properties = H5Pcreate(H5P_DATASET_CREATE);
    const hsize_t sizes[] = {3, 11, 2};
    H5Pset_external(properties, "/etc/hostname", 0, H5F_UNLIMITED);
    hid_t space = H5Screate_simple(3, sizes, NULL);
    hid_t dataset = H5Dcreate2(file, "data", H5T_IEEE_F32LE, space, H5P_DEFAULT, properties, H5P_DEFAULT);
    assert_true(dataset >= 0);
    H5Dclose(dataset);
    H5Sclose(space);
    H5Pclose(properties);
    H5Lcreate_external("/etc/other.h5", "/data", file, "linked", H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(file);
    struct config config = config_for("outside.h5");
    check_refused(&config, LVS_INPUT, "keeps its values in other files");
}

/* ---- missing values and constant series ---- */

/* 4 series, 6 points, 2 channels: NaN at series 1 point 2 channel 1 and around; series 3 has an infinite value. */
static void write_gaps(const char *name) {
    struct series_set set = fixture_set(4, 6, 2, hill);
    double *gaps = set.values + 12;
    gaps[5] = gaps[7] = NAN; /* series 1, channel 1, points 2 and 3 */
    gaps[0] = NAN;           /* series 1, channel 0, first point */
    gaps[10] = NAN;          /* and last */
    set.values[36 + 3] = INFINITY;
    assert_ok(series_write(fixture_path(name), &set, &fixture_error));
    series_free(&set);
}

static void test_missing(void **state) {
    (void)state;
    write_gaps("gaps.h5");
    struct config config = config_for("gaps.h5");
    strcpy(config.variables, "hare+lynx");
    check_refused(&config, LVS_INPUT,
                  "series 1, channel hare, point 0 (counted from 0) is NaN; 5 such values in 2 of 4");
    assert_non_null(strstr(fixture_error.text, "missing = drop_series or missing = interpolate"));

    struct series_set set;
    config.missing = MISSING_DROP_SERIES;
    assert_ok(series_read(&config, &set, &fixture_error));
    assert_int_equal(set.n_series, 2);
    assert_int_equal(set.n_file, 4);
    assert_int_equal(set.id[1], 2);
    assert_true(set.values[12] == hill(2, 0, 0) && set.values[23] == hill(2, 5, 1));
    series_free(&set);

    config.missing = MISSING_INTERPOLATE;
    assert_ok(series_read(&config, &set, &fixture_error));
    const double *filled = set.values + 12;
    assert_true(filled[0] == hill(1, 1, 0));
    assert_true(filled[10] == hill(1, 4, 0));
    double left = hill(1, 1, 1), right = hill(1, 4, 1);
    assert_near(filled[5], left + (right - left) / 3, 1e-12);
    assert_near(filled[7], left + (right - left) * 2 / 3, 1e-12);
    assert_near(set.values[36 + 3], (hill(3, 0, 1) + hill(3, 2, 1)) / 2, 1e-12);
    series_free(&set);
}

static void test_nothing_left(void **state) {
    (void)state;
    struct series_set set = fixture_set(2, 5, 2, hill);
    for (int32_t t = 0; t < 5; t++)
        set.values[10 + 2 * t + 1] = NAN;
    set.values[0] = NAN;
    assert_ok(series_write(fixture_path("none.h5"), &set, &fixture_error));
    series_free(&set);
    struct config config = config_for("none.h5");
    config.missing = MISSING_INTERPOLATE;
    check_refused(&config, LVS_INPUT, "series 1, channel c1 has no value at all");
    config.missing = MISSING_DROP_SERIES;
    check_refused(&config, LVS_INPUT, "leaves none of the 2 series");
}

static void test_constant(void **state) {
    (void)state;
    struct series_set set = fixture_set(5, 6, 2, hill), read;
    for (int32_t i = 0; i < 12; i++) {
        set.values[12 + i] = i % 2 ? 0 : 3; /* series 1: constant, not equal channels */
        set.values[36 + i] = 0;
    }
    assert_ok(series_write(fixture_path("constant.h5"), &set, &fixture_error));
    struct config config = config_for("constant.h5");
    check_refused(&config, LVS_INPUT, "series 1 is constant (3 at every point; 2 such series of 5)");
    config.missing = MISSING_DROP_SERIES;
    assert_ok(series_read(&config, &read, &fixture_error));
    assert_int_equal(read.n_series, 3);
    assert_int_equal(read.id[1], 2);
    series_free(&read);
    series_free(&set);
}

/* ---- what is read ---- */

static void test_round_trip(void **state) {
    (void)state;
    struct series_set set = fixture_set(7, 11, 3, hill), read, again;
    strcpy(set.channel_name[0], "hare");
    strcpy(set.channel_name[1], "lynx");
    strcpy(set.channel_name[2], "weiß");
    strcpy(set.channel_unit[1], "1000 pelts");
    strcpy(set.time_unit, "year");
    assert_ok(series_write(fixture_path("trip.h5"), &set, &fixture_error));
    struct config config = config_for("trip.h5");
    assert_ok(series_read(&config, &read, &fixture_error));
    assert_int_equal(read.n_series, 7);
    assert_int_equal(read.n_file, 7);
    assert_int_equal(read.n_time, 11);
    assert_int_equal(read.n_channel, 3);
    assert_memory_equal(read.values, set.values, 7 * 11 * 3 * sizeof(double)); /* exact in float32 */
    assert_memory_equal(read.time, set.time, 11 * sizeof(double));
    for (int32_t c = 0; c < 3; c++) {
        assert_string_equal(read.channel_name[c], set.channel_name[c]);
        assert_string_equal(read.channel_unit[c], set.channel_unit[c]);
    }
    assert_string_equal(read.time_unit, "year");
    assert_int_equal(strlen(read.hash), 32);
    assert_ok(series_read(&config, &again, &fixture_error));
    assert_string_equal(read.hash, again.hash);
    series_free(&again);
    set.values[5] += 1;
    assert_ok(series_write(fixture_path("trip.h5"), &set, &fixture_error));
    assert_ok(series_read(&config, &again, &fixture_error));
    assert_string_not_equal(read.hash, again.hash);
    series_free(&again);
    series_free(&read);
    series_free(&set);
    assert_false(file_exists(fixture_path("trip.h5.tmp")));
    struct series_set unwritable = fixture_set(1, 4, 1, hill);
    assert_fails(series_write("/nonexistent/x.h5", &unwritable, &fixture_error), LVS_OUTPUT, "cannot create");
    series_free(&unwritable);
}

/* The reference layout has no names: numbers, unless the config has some. */
static void test_names_of_config(void **state) {
    (void)state;
    struct series_set set = fixture_set(2, 11, 2, hill), read;
    write_cube("bare.h5", 2, 11, 2, set.values);
    struct config config = config_for("bare.h5");
    assert_ok(series_read(&config, &read, &fixture_error));
    assert_string_equal(read.channel_name[0], "1");
    assert_string_equal(read.channel_name[1], "2");
    assert_true(read.time[3] == 3);
    series_free(&read);
    strcpy(config.variables, "hare+lynx");
    strcpy(config.units, "pelts");
    assert_ok(series_read(&config, &read, &fixture_error));
    assert_string_equal(read.channel_name[1], "lynx");
    assert_string_equal(read.channel_unit[1], "pelts");
    series_free(&read);
    strcpy(config.units, "kg+m");
    assert_ok(series_read(&config, &read, &fixture_error));
    assert_string_equal(read.channel_unit[0], "kg");
    assert_string_equal(read.channel_unit[1], "m");
    series_free(&read);
    strcpy(config.units, "kg+m+s");
    check_refused(&config, LVS_USAGE, "gives 3 units, the data have 2 channels");
    config.units[0] = '\0';
    strcpy(config.variables, "hare");
    check_refused(&config, LVS_USAGE, "names 1 channels, the data have 2");
    strcpy(config.variables, "hare+hare");
    check_refused(&config, LVS_USAGE, "hare is there twice");
    strcpy(config.variables, "hare+");
    check_refused(&config, LVS_USAGE, "an empty name");
    series_free(&set);
}

/* A netCDF-like file: big-endian float32 in a group, scales for time (with units) and channel (fixed-length strings),
 * attribute `units` as one fixed-length string. */
static void test_dimension_scales(void **state) {
    (void)state;
    struct series_set set = fixture_set(2, 11, 2, hill), read;
    hid_t file = new_file("scales.h5"), group = H5Gcreate2(file, "field", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    const hsize_t sizes[] = {2, 11, 2}, two = 2, eleven = 11;
    hid_t data = add_dataset(group, "abundance", H5T_IEEE_F32BE, 3, sizes, H5T_NATIVE_DOUBLE, set.values);
    int32_t years[11];
    for (int32_t t = 0; t < 11; t++)
        years[t] = 1900 + 2 * t;
    hid_t time = add_dataset(group, "year", H5T_STD_I16BE, 1, &eleven, H5T_NATIVE_INT32, years);
    hid_t text = H5Tcopy(H5T_C_S1);
    H5Tset_size(text, 8);
    H5Tset_strpad(text, H5T_STR_SPACEPAD);
    hid_t names = add_dataset(group, "species", text, 1, &two, text, "hare    ly\tnx   ");
    hid_t scalar = H5Screate(H5S_SCALAR);
    hid_t unit = H5Acreate2(data, "units", text, scalar, H5P_DEFAULT, H5P_DEFAULT);
    H5Awrite(unit, text, "pelts   ");
    hid_t time_unit = H5Acreate2(time, "units", text, scalar, H5P_DEFAULT, H5P_DEFAULT);
    H5Awrite(time_unit, text, "years   ");
    assert_true(H5DSset_scale(time, "year") >= 0 && H5DSattach_scale(data, time, 1) >= 0);
    assert_true(H5DSset_scale(names, "species") >= 0 && H5DSattach_scale(data, names, 2) >= 0);
    H5Aclose(unit);
    H5Aclose(time_unit);
    H5Sclose(scalar);
    H5Tclose(text);
    H5Dclose(names);
    H5Dclose(time);
    H5Dclose(data);
    H5Gclose(group);
    H5Fclose(file);
    struct config config = config_for("scales.h5");
    assert_ok(series_read(&config, &read, &fixture_error));
    assert_string_equal(read.channel_name[0], "hare");
    assert_string_equal(read.channel_name[1], "ly_nx");
    assert_string_equal(read.channel_unit[1], "pelts");
    assert_string_equal(read.time_unit, "years");
    assert_true(read.time[10] == 1920);
    assert_true(read.values[25] == set.values[25]);
    series_free(&read);
    series_free(&set);
}

static void test_bad_time(void **state) {
    (void)state;
    struct series_set set = fixture_set(2, 11, 2, hill), read;
    set.time[4] = set.time[3];
    assert_ok(series_write(fixture_path("time.h5"), &set, &fixture_error));
    struct config config = config_for("time.h5");
    check_refused(&config, LVS_INPUT, "point 4 (counted from 0) is 6; times must be finite and rising");
    set.time[4] = NAN;
    assert_ok(series_write(fixture_path("time.h5"), &set, &fixture_error));
    check_refused(&config, LVS_INPUT, "point 4");
    series_free(&set);
    /* A scale of another length belongs to this dataset and is wrong. */
    set = fixture_set(2, 11, 2, hill);
    const hsize_t nine = 9;
    write_cube("time.h5", 2, 11, 2, set.values);
    hid_t scaled = H5Fopen(fixture_path("time.h5"), H5F_ACC_RDWR, H5P_DEFAULT);
    hid_t data = H5Dopen2(scaled, "data", H5P_DEFAULT);
    hid_t scale = add_dataset(scaled, "when", H5T_IEEE_F64LE, 1, &nine, H5T_NATIVE_DOUBLE, set.values);
    assert_true(H5DSset_scale(scale, "when") >= 0 && H5DSattach_scale(data, scale, 1) >= 0);
    H5Dclose(scale), H5Dclose(data), H5Fclose(scaled);
    check_refused(&config, LVS_INPUT, "the time scale has 9 values, the series have 11 points");
    series_free(&set);
    /* A `time` of another length is not this dataset's. */
    set = fixture_set(2, 11, 2, hill);
    write_cube("time.h5", 2, 11, 2, set.values);
    hid_t file = H5Fopen(fixture_path("time.h5"), H5F_ACC_RDWR, H5P_DEFAULT);
    const hsize_t ten = 10;
    H5Dclose(add_dataset(file, "time", H5T_IEEE_F64LE, 1, &ten, H5T_NATIVE_DOUBLE, set.values));
    H5Fclose(file);
    assert_ok(series_read(&config, &read, &fixture_error));
    assert_true(read.time[10] == 10);
    series_free(&read);
    series_free(&set);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_hdf5),          cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_damaged),          cmocka_unit_test(test_wrong_datasets),
        cmocka_unit_test(test_wrong_sizes),      cmocka_unit_test(test_hostile_sizes),
        cmocka_unit_test(test_external_values),  cmocka_unit_test(test_missing),
        cmocka_unit_test(test_nothing_left),     cmocka_unit_test(test_constant),
        cmocka_unit_test(test_round_trip),       cmocka_unit_test(test_names_of_config),
        cmocka_unit_test(test_dimension_scales), cmocka_unit_test(test_bad_time),
    };
    return cmocka_run_group_tests(tests, fixture_make_folder, fixture_remove_folder);
}
