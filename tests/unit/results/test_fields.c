/* The list of columns: names, units, cells; CSV and JSON made from it; the table of docs/results-format.md. */
#include "sample.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct results sample;

static int set_up(void **state) {
    (void)state;
    sample_results(&sample, "out", 10);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    results_free(&sample);
    return 0;
}

static void names_are_distinct_and_no_method_of_a_dataset(void **state) {
    (void)state;
    /* ds.rank and the like are methods of xarray's Dataset; "stage", "step" … are axes of their own */
    static const char *const taken[] = {
        "rank",   "variable", "head",  "count",  "max",     "min",  "mean",   "std",   "all",     "any",   "clip",
        "where",  "sel",      "stage", "step",   "channel", "data", "coords", "dims",  "attrs",   "sizes", "evaluation",
        "series", "time",     "plot",  "values", "items",   "keys", "get",    "query", "baseline"};
    for (int32_t i = 0; i < field_count(); i++) {
        const struct field *field = field_at(i);
        assert_ptr_equal(field_find(field->name), field);
        assert_true(field->long_name[0]);
        assert_int_equal(strspn(field->name, "abcdefghijklmnopqrstuvwxyz0123456789_"), strlen(field->name));
        for (size_t k = 0; k < sizeof taken / sizeof *taken; k++)
            assert_string_not_equal(field->name, taken[k]);
        assert_true(!(field->flags & FIELD_OPTIONAL) || field->type == FIELD_I32);
    }
    assert_null(field_find("no_such"));
    assert_null(field_at(-1));
    assert_null(field_at(field_count()));
}

static void promised_columns_are_there(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int32_t type, axes;
    } promised[] = {
        {"lora_rank", FIELD_I32, AXES_TRIAL},
        {"learning_rate", FIELD_F64, AXES_TRIAL},
        {"context", FIELD_I32, AXES_TRIAL},
        {"seed", FIELD_I64, AXES_TRIAL},
        {"decimals", FIELD_I32, AXES_TRIAL},
        {"steps_done", FIELD_I32, AXES_TRIAL},
        {"in_stage", FIELD_U8, AXES_TRIAL_STAGE},
        {"status", FIELD_U8, AXES_TRIAL},
        {"train_loss", FIELD_F32, AXES_TRIAL_STEP},
        {"gradient_norm", FIELD_F32, AXES_TRIAL_STEP},
        {"gradient_norm_clipped", FIELD_F32, AXES_TRIAL_STEP},
        {"n_step", FIELD_I32, AXES_TRIAL},
        {"evaluation_step", FIELD_I32, AXES_TRIAL_EVALUATION},
        {"n_evaluation", FIELD_I32, AXES_TRIAL},
        {"val_loss_curve", FIELD_F64, AXES_TRIAL_EVALUATION},
        {"val_mae_scaled_curve", FIELD_F64, AXES_TRIAL_EVALUATION},
        {"val_mse_scaled_curve", FIELD_F64, AXES_TRIAL_EVALUATION},
        {"val_loss", FIELD_F64, AXES_TRIAL},
        {"val_loss_masked", FIELD_F64, AXES_TRIAL},
        {"val_perplexity", FIELD_F64, AXES_TRIAL},
        {"val_nats_per_value", FIELD_F64, AXES_TRIAL},
        {"val_mse", FIELD_F64, AXES_TRIAL_CHANNEL},
        {"val_mae", FIELD_F64, AXES_TRIAL_CHANNEL},
        {"val_r2", FIELD_F64, AXES_TRIAL_CHANNEL},
        {"test_mse", FIELD_F64, AXES_TRIAL_CHANNEL},
        {"val_mae_scaled", FIELD_F64, AXES_TRIAL_CHANNEL},
        {"val_crps", FIELD_F64, AXES_TRIAL},
        {"val_success_rate", FIELD_F64, AXES_TRIAL},
        {"val_forecast_cross_entropy", FIELD_F64, AXES_TRIAL},
        {"flops_counted", FIELD_I64, AXES_TRIAL},
        {"flops_training", FIELD_I64, AXES_TRIAL},
        {"flops_evaluation", FIELD_I64, AXES_TRIAL},
        {"flops_lost", FIELD_I64, AXES_TRIAL},
        {"flops_executed", FIELD_I64, AXES_TRIAL},
        {"budget_percent", FIELD_F64, AXES_TRIAL},
        {"seconds", FIELD_F64, AXES_TRIAL},
        {"tokens_per_second", FIELD_F64, AXES_TRIAL},
        {"worker", FIELD_I32, AXES_TRIAL},
        {"device", FIELD_TEXT, AXES_TRIAL},
        {"attempt", FIELD_I32, AXES_TRIAL},
        {"error", FIELD_TEXT, AXES_TRIAL},
        {"train_key", FIELD_TEXT, AXES_TRIAL},
        {"eval_key", FIELD_TEXT, AXES_TRIAL},
        {"name", FIELD_TEXT, AXES_TRIAL},
        {"parent", FIELD_I32, AXES_TRIAL},
    };
    for (size_t i = 0; i < sizeof promised / sizeof *promised; i++) {
        const struct field *field = field_find(promised[i].name);
        if (!field) fail_msg("no column %s", promised[i].name);
        assert_int_equal(field->type, promised[i].type);
        assert_int_equal(field->axes, promised[i].axes);
    }
}

static double number(const char *name, int32_t row, int32_t k) {
    return field_number(field_find(name), &sample, &sample.rows[row], k);
}

static void cells_are_the_rows_values(void **state) {
    (void)state;
    const struct record *record = &sample.rows[4].record;
    assert_true(number("val_loss", 4, 0) == record->val_loss.loss);
    assert_true(number("val_perplexity", 4, 0) == exp(record->val_loss.loss));
    assert_true(number("val_mae", 4, 1) == record->val.mae[1]);
    assert_true(isnan(number("test_loss", 4, 0)));
    assert_true(isnan(number("parent", 4, 0)));
    assert_true(number("parent", 9, 0) == 0);
    assert_true(number("alpha", 4, 0) == sample.rows[4].trial.settings.lora_rank);
    assert_true(isnan(number("clip_norm", 4, 0)));
    assert_true(number("steps", 4, 0) == 600);
    assert_true(number("n_step", 4, 0) == 600);
    assert_true(number("in_stage", 4, 0) == 1 && number("in_stage", 4, 1) == 0 && number("in_stage", 9, 1) == 1);
    assert_int_equal(field_integer(field_find("flops_counted"), &sample, &sample.rows[4], 0), 600001800);
    assert_true(fabs(number("budget_percent", 4, 0) - 0.06000018) < 1e-12);
    struct strbuf text;
    strbuf_init(&text);
    field_text(field_find("targets"), &sample, &sample.rows[4], &text);
    strbuf_add(&text, " ");
    field_text(field_find("stride"), &sample, &sample.rows[4], &text);
    strbuf_add(&text, " ");
    field_text(field_find("trial_stage"), &sample, &sample.rows[9], &text);
    assert_string_equal(text.text, "q_proj+v_proj 50% final");
    strbuf_free(&text);
}

static char *take_line(char **at) {
    char *line = *at, *end = strstr(line, "\r\n");
    assert_non_null(end);
    *end = '\0';
    *at = end + 2;
    return line;
}

/* Commas outside quotes. */
static int cells_of(const char *line) {
    int cells = 1;
    bool quoted = false;
    for (; *line; line++) {
        quoted ^= *line == '"';
        cells += !quoted && *line == ',';
    }
    assert_false(quoted);
    return cells;
}

static void csv_has_a_cell_for_every_heading(void **state) {
    (void)state;
    struct strbuf csv;
    strbuf_init(&csv);
    lvs_copy(sample.rows[2].record.error, 512, "a, \"b\"\nc");
    export_csv(&sample, &csv);
    char *at = csv.text, *heading = take_line(&at);
    int cells = cells_of(heading);
    assert_non_null(strstr(heading, "trial,name,trial_stage,in_stage.search,in_stage.final,status,"));
    assert_non_null(strstr(heading, ",val_mse.prey,val_mse.predator,"));
    assert_null(strstr(heading, ",train_loss,"));
    for (int i = 0; i < 10; i++)
        assert_int_equal(cells_of(take_line(&at)), cells);
    assert_int_equal(*at, '\0');
    strbuf_clear(&csv);
    export_csv(&sample, &csv);
    assert_non_null(strstr(csv.text, ",\"a, \"\"b\"\"\nc\","));
    assert_non_null(strstr(csv.text, "\r\n0,r2-lr1e-05-c512-s0-000000,search,1,0,done,,2,1e-05,512,0,2,2,0,"));
    strbuf_free(&csv);
}

static void json_holds_every_field(void **state) {
    (void)state;
    struct strbuf text;
    json_error_t why;
    strbuf_init(&text);
    export_json(&sample, &text);
    json_t *json = json_loads(text.text, JSON_REJECT_DUPLICATES, &why);
    if (!json) fail_msg("line %d: %s", why.line, why.text);
    const json_t *trials = json_object_get(json, "trials");
    assert_int_equal(json_array_size(trials), 10);
    for (int32_t r = 0; r < 10; r++)
        for (int32_t i = 0; i < field_count(); i++) {
            const struct field *field = field_at(i);
            const json_t *cell = json_object_get(json_array_get(trials, (size_t)r), field->name);
            if (field->axes > AXES_TRIAL_STAGE) {
                assert_null(cell);
                continue;
            }
            assert_non_null(cell);
            if (field->axes != AXES_TRIAL) assert_int_equal(json_array_size(cell), field_width(field, &sample));
            if (field->type == FIELD_F64 && field->axes == AXES_TRIAL) {
                double value = field_number(field, &sample, &sample.rows[r], 0);
                assert_true(isnan(value) ? json_is_null(cell) : json_number_value(cell) == value);
            }
        }
    assert_int_equal(json_array_size(json_object_get(json, "baselines")), 3);
    assert_string_equal(json_string_value(json_object_get(json, "schema_version")), RESULTS_SCHEMA_VERSION);
    json_decref(json);
    strbuf_free(&text);
}

static void an_empty_sweep_exports(void **state) {
    (void)state;
    struct results empty;
    struct strbuf text;
    json_error_t why;
    results_init(&empty, "out");
    strbuf_init(&text);
    export_json(&empty, &text);
    json_t *json = json_loads(text.text, 0, &why);
    assert_non_null(json);
    json_decref(json);
    strbuf_clear(&text);
    export_csv(&empty, &text);
    results_write_table(&empty, NULL, 80, &text);
    strbuf_free(&text);
    results_free(&empty);
}

/* ---- the table of docs/results-format.md ---- */

static const char *type_name(int32_t type) {
    static const char *const names[] = {
        [FIELD_F64] = "float64", [FIELD_F32] = "float32", [FIELD_I64] = "int64",
        [FIELD_I32] = "int32",   [FIELD_U8] = "uint8",    [FIELD_TEXT] = "text",
    };
    return names[type];
}

static const char *axes_name(int32_t axes) {
    static const char *const names[] = {
        [AXES_TRIAL] = "trial",
        [AXES_TRIAL_CHANNEL] = "trial, channel",
        [AXES_TRIAL_STAGE] = "trial, stage",
        [AXES_TRIAL_STEP] = "trial, step",
        [AXES_TRIAL_EVALUATION] = "trial, evaluation",
    };
    return names[axes];
}

static void write_reference(struct strbuf *out) {
    strbuf_add(out, "| name | type | dimensions | units | what it is |\n|---|---|---|---|---|\n");
    for (int32_t i = 0; i < field_count(); i++) {
        const struct field *field = field_at(i);
        const char *units = !field->units                        ? ""
                            : strcmp(field->units, "data") == 0  ? "of the channel"
                            : strcmp(field->units, "data2") == 0 ? "of the channel, squared"
                                                                 : field->units;
        strbuf_printf(out, "| `%s` | %s | %s | %s | %s%s |\n", field->name, type_name(field->type),
                      axes_name(field->axes), units, field->long_name,
                      field->flags & FIELD_COORDINATE ? " (coordinate)" : "");
    }
}

/* The page's table is this list. */
static void documentation_is_the_list(void **state) {
    (void)state;
    struct strbuf table;
    struct lvs_error err = {0};
    char *page;
    size_t length;
    strbuf_init(&table);
    write_reference(&table);
    assert_int_equal(file_read(LVS_SOURCE_DIR "/docs/results-format.md", 1 << 20, &page, &length, &err), LVS_OK);
    if (!strstr(page, table.text)) {
        print_message("docs/results-format.md must hold this table:\n%s", table.text);
        fail();
    }
    free(page);
    strbuf_free(&table);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_distinct_and_no_method_of_a_dataset),
        cmocka_unit_test(promised_columns_are_there),
        cmocka_unit_test_setup_teardown(cells_are_the_rows_values, set_up, tear_down),
        cmocka_unit_test_setup_teardown(csv_has_a_cell_for_every_heading, set_up, tear_down),
        cmocka_unit_test_setup_teardown(json_holds_every_field, set_up, tear_down),
        cmocka_unit_test(an_empty_sweep_exports),
        cmocka_unit_test(documentation_is_the_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
