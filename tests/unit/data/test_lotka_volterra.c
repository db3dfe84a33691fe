/* The solver against SciPy's recorded solutions and its own invariant; the generator: determinism, independence of the
 * number of systems, refused arguments, and populations and periods like those of the reference data. */
#include "data_fixture.h"

#include "golden_file.h"

/* Constant along every solution. */
static double invariant(const struct lotka_volterra *s, double prey, double predator) {
    return s->d * prey - s->c * log(prey) + s->b * predator - s->a * log(predator);
}

static void test_refused(void **state) {
    (void)state;
    double values[8];
    const double time[] = {0, 1, 2, 3}, backwards[] = {0, 1, 1, 2};
    struct lotka_volterra system = {0.2, 0.3, 0.15, 0.1, 1, 1};
    assert_fails(lotka_volterra_solve(&system, backwards, 4, values, &fixture_error), LVS_USAGE, "times must rise");
    system.c = -0.1;
    assert_fails(lotka_volterra_solve(&system, time, 4, values, &fixture_error), LVS_USAGE, "rate c is -0.1");
    system.c = INFINITY;
    assert_fails(lotka_volterra_solve(&system, time, 4, values, &fixture_error), LVS_USAGE, "rate c");
    system = (struct lotka_volterra){0.2, 0.3, 0.15, 0.1, NAN, 1};
    assert_fails(lotka_volterra_solve(&system, time, 4, values, &fixture_error), LVS_USAGE, "starts at");
    /* Without a predator the prey leaves the range of a double. */
    system = (struct lotka_volterra){900, 0.3, 0.15, 0.1, 1, 0};
    assert_fails(lotka_volterra_solve(&system, time, 4, values, &fixture_error), LVS_USAGE, "no solution beyond time");
    struct series_set set;
    assert_fails(lotka_volterra_generate(0, 100, 200, 0, 1, &set, &fixture_error), LVS_USAGE, "at least 1");
    assert_fails(lotka_volterra_generate(1, 2, 200, 0, 1, &set, &fixture_error), LVS_USAGE, "points");
    assert_fails(lotka_volterra_generate(1, 100, -1, 0, 1, &set, &fixture_error), LVS_USAGE, "end time -1");
    assert_fails(lotka_volterra_generate(1, 100, 200, NAN, 1, &set, &fixture_error), LVS_USAGE, "noise");
    assert_fails(lotka_volterra_generate(INT32_MAX, 100, 200, 0, 1, &set, &fixture_error), LVS_INPUT, "4 GiB");
}

static void test_as_scipy(void **state) {
    (void)state;
    struct golden_file golden = golden_open("solutions.safetensors");
    int32_t n_parameters, n_time, n_values;
    double *parameters = golden_values(&golden, "parameters", &n_parameters);
    double *time = golden_values(&golden, "time", &n_time), *expected = golden_values(&golden, "solution", &n_values);
    assert_int_equal(n_parameters, 30);
    assert_int_equal(n_values, 5 * n_time * 2);
    double worst = 0, values[200];
    for (int32_t s = 0; s < 5; s++) {
        const double *p = parameters + 6 * s;
        struct lotka_volterra system = {p[0], p[1], p[2], p[3], p[4], p[5]};
        assert_ok(lotka_volterra_solve(&system, time, n_time, values, &fixture_error));
        for (int32_t i = 0; i < 2 * n_time; i++) {
            double value = expected[2 * n_time * s + i];
            worst = fmax(worst, fabs(values[i] - value) / value);
        }
    }
    print_message("largest relative difference from SciPy: %.3g\n", worst);
    assert_true(worst < 1e-6);
    free(parameters);
    free(time);
    free(expected);
    golden_close(&golden);
}

static void test_invariant(void **state) {
    (void)state;
    double time[1000], values[2000];
    for (int32_t t = 0; t < 1000; t++)
        time[t] = 0.2 * t;
    const struct lotka_volterra systems[] = {
        {0.2, 0.3, 0.15, 0.1, 1, 1}, {0.1, 0.45, 0.24, 0.05, 0.8, 1.2}, {1.1, 0.4, 0.4, 0.1, 10, 10}};
    for (int32_t s = 0; s < COUNT_OF(systems); s++) {
        assert_ok(lotka_volterra_solve(&systems[s], time, 1000, values, &fixture_error));
        double first = invariant(&systems[s], values[0], values[1]), worst = 0;
        for (int32_t t = 0; t < 1000; t++)
            worst = fmax(worst, fabs(invariant(&systems[s], values[2 * t], values[2 * t + 1]) - first));
        print_message("system %d: the invariant moves by %.3g\n", s, worst);
        assert_true(worst < 1e-8);
    }
}

/* Known solutions: exponentials without the other kind, and rest at the fixed point. */
static void test_known(void **state) {
    (void)state;
    const double time[] = {0, 3, 10};
    double values[6];
    struct lotka_volterra system = {0.2, 0.3, 0.15, 0.1, 2, 0};
    assert_ok(lotka_volterra_solve(&system, time, 3, values, &fixture_error));
    assert_near(values[4], 2 * exp(0.2 * 10), 1e-7);
    assert_true(values[5] == 0);
    system = (struct lotka_volterra){0.2, 0.3, 0.15, 0.1, 0, 2};
    assert_ok(lotka_volterra_solve(&system, time, 3, values, &fixture_error));
    assert_near(values[5], 2 * exp(-0.15 * 10), 1e-8);
    system = (struct lotka_volterra){0.2, 0.4, 0.15, 0.1, 1.5, 0.5};
    assert_ok(lotka_volterra_solve(&system, time, 3, values, &fixture_error));
    assert_near(values[4], 1.5, 1e-12);
    assert_near(values[5], 0.5, 1e-12);
}

static void test_generate_deterministic(void **state) {
    (void)state;
    struct series_set many, few, other;
    assert_ok(lotka_volterra_generate(20, 100, 200, 0.05, 7, &many, &fixture_error));
    assert_ok(lotka_volterra_generate(5, 100, 200, 0.05, 7, &few, &fixture_error));
    assert_ok(lotka_volterra_generate(5, 100, 200, 0.05, 8, &other, &fixture_error));
    assert_memory_equal(many.values, few.values, 5 * 200 * sizeof(double));
    assert_memory_not_equal(few.values, other.values, 5 * 200 * sizeof(double));
    assert_string_not_equal(few.hash, other.hash);
    assert_string_equal(few.channel_name[1], "predator");
    assert_true(few.time[0] == 0 && few.time[99] == 200);
    for (int32_t i = 0; i < 1000; i++)
        assert_true(few.values[i] > 0 && few.values[i] == (double)(float)few.values[i]);
    series_free(&many);
    series_free(&few);
    series_free(&other);
}

static int compare(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

/* Bounds around what is measured on the reference data (1000 systems, 100 points over 0–200): median series means 1.39
 * and 0.53, medians of the largest values 2.96 and 1.14, starts within 0.8–1.2. */
static void test_generate_like_reference(void **state) {
    (void)state;
    enum { SYSTEMS = 1000 };
    struct series_set set;
    assert_ok(lotka_volterra_generate(SYSTEMS, 100, 200, 0, 1, &set, &fixture_error));
    static double means[2][SYSTEMS], maxima[2][SYSTEMS];
    for (int32_t s = 0; s < SYSTEMS; s++)
        for (int32_t c = 0; c < 2; c++) {
            double start = set.values[200 * s + c];
            assert_true(start >= 0.8 && start <= 1.2);
            for (int32_t t = 0; t < 100; t++) {
                means[c][s] += set.values[200 * s + 2 * t + c] / 100;
                maxima[c][s] = fmax(maxima[c][s], set.values[200 * s + 2 * t + c]);
            }
        }
    const double mean[] = {1.39, 0.53}, maximum[] = {2.96, 1.14};
    for (int32_t c = 0; c < 2; c++) {
        qsort(means[c], SYSTEMS, sizeof(double), compare);
        qsort(maxima[c], SYSTEMS, sizeof(double), compare);
        assert_near(means[c][SYSTEMS / 2], mean[c], 0.1 * mean[c]);
        assert_near(maxima[c][SYSTEMS / 2], maximum[c], 0.1 * maximum[c]);
        assert_true(maxima[c][SYSTEMS - 1] < 25);
    }
    series_free(&set);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_as_scipy),
        cmocka_unit_test(test_invariant),
        cmocka_unit_test(test_known),
        cmocka_unit_test(test_generate_deterministic),
        cmocka_unit_test(test_generate_like_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
