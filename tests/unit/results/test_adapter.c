/* lvsweep.json: round trip, refusals; copying an adapter's folder. */
#include "sample.h"
#include "unit/own_folder.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static char folder[LVS_PATH_MAX];

static int set_up(void **state) {
    (void)state;
    own_folder_make(folder);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    own_folder_remove(folder);
    return 0;
}

static void make_info(struct adapter_info *info) {
    memset(info, 0, sizeof *info);
    lvs_copy(info->trial, sizeof info->trial, "r8-lr1e-4");
    lvs_copy(info->train_key, sizeof info->train_key, "0123456789abcdef0123456789abcdef");
    lvs_copy(info->base_model, sizeof info->base_model, "hf:owner/näme \"x\"");
    lvs_copy(info->model_hash, sizeof info->model_hash, "ff");
    info->lora_rank = 8;
    info->head = HEAD_BIAS;
    info->lora_alpha = 16;
    info->context = 512;
    info->format =
        (struct text_format){.decimals = 3, .n_channel = 2, .decimal_point = true, .negative = true, .clip = 9.99};
    info->scale_over = SCALE_TRAIN;
    info->scale_points = SCALE_POINTS_ALL;
    info->history_points = 50;
    info->scale_percentile = 99.5;
    info->scale_to = 10;
    for (int c = 0; c < LVS_MAX_CHANNELS; c++)
        info->train_factor[c] = NAN;
    info->train_factor[0] = 1.0 / 3;
    info->train_factor[1] = 1.1008087;
    lvs_copy(info->channel_name[0], 64, "prey");
    lvs_copy(info->channel_name[1], 64, "predator");
    lvs_copy(info->channel_unit[1], 32, "km²");
    lvs_copy(info->time_unit, sizeof info->time_unit, "years");
    struct tokenizer *tokenizer = &info->tokenizer;
    for (int c = 0; c < 128; c++)
        tokenizer->id_of[c] = -1;
    for (int i = 0; i < 10; i++)
        tokenizer->id_of['0' + i] = 15 + i;
    tokenizer->id_of[','] = 11;
    tokenizer->id_of[';'] = 26;
    tokenizer->pad_id = tokenizer->eos_id = 151643;
    tokenizer->n_more_ends = 2;
    tokenizer->more_ends[0] = 151645;
    tokenizer->more_ends[1] = 151644;
    tokenizer->n_vocabulary = 151936;
    tokenizer->text_only = true;
    tokenizer->n_kept = 3;
    tokenizer->kept[0] = 15;
    tokenizer->kept[1] = 11;
    tokenizer->kept[2] = 151643;
}

static void information_comes_back(void **state) {
    (void)state;
    struct adapter_info info, back;
    struct lvs_error err = {0};
    make_info(&info);
    assert_int_equal(adapter_info_write(folder, &info, &err), LVS_OK);
    if (adapter_info_read(folder, &back, &err) != LVS_OK) fail_msg("%s", err.text);
    assert_memory_equal(&back.train_factor, &info.train_factor, sizeof info.train_factor);
    assert_memory_equal(&back.tokenizer, &info.tokenizer, sizeof info.tokenizer);
    assert_memory_equal(back.channel_name, info.channel_name, sizeof info.channel_name);
    assert_memory_equal(back.channel_unit, info.channel_unit, sizeof info.channel_unit);
    assert_string_equal(back.base_model, info.base_model);
    assert_string_equal(back.train_key, info.train_key);
    assert_string_equal(back.time_unit, info.time_unit);
    assert_true(back.format.clip == 9.99 && back.format.decimals == 3 && back.format.n_channel == 2);
    assert_true(back.format.decimal_point && back.format.negative && back.lora_alpha == 16);
    assert_true(back.head == HEAD_BIAS && back.scale_over == SCALE_TRAIN && back.scale_points == SCALE_POINTS_ALL);
    assert_true(back.scale_percentile == 99.5 && back.scale_to == 10 && back.history_points == 50);
    info.head = 7;
    assert_int_equal(adapter_info_write(folder, &info, &err), LVS_BUG);
}

static char *replaced(const char *text, const char *from, const char *to) {
    struct strbuf out;
    const char *at = strstr(text, from);
    if (!at) fail_msg("no %s in lvsweep.json", from);
    strbuf_init(&out);
    strbuf_add_bytes(&out, text, (size_t)(at - text));
    strbuf_add(&out, to);
    strbuf_add(&out, at + strlen(from));
    return strbuf_take(&out);
}

static void wrong_information_is_refused(void **state) {
    (void)state;
    static const char *const changes[][2] = {
        {"\"format\": \"lvsweep adapter\"", "\"format\": \"other\""},
        {"\"version\": 1", "\"version\": 2"},
        {"\"trial\": ", "\"tri\": "},
        {"\"head\": \"bias\"", "\"head\": \"none\""},
        {"\"decimals\": 3", "\"decimals\": 7"},
        {"\"decimals\": 3", "\"decimals\": 3.0"},
        {"\"percentile\": 99.5", "\"percentile\": \"99\""},
        {"\"channels\": [", "\"channels\": [], \"x\": ["},
        {"\"context\": 512", "\"context\": 0"},
        {"\"context\": 512", "\"context\": 99999999999"},
        {"\"size\": 151936", "\"size\": 15"},
        {"\"kept\": [", "\"kept\": [-1, "},
        {"\"more_ends\": [", "\"more_ends\": [151936, "},
        {"\"more_ends\": [", "\"more_ends\": [1, 2, 3, 4, 5, 6, "},
        {"\"factor\": [", "\"factor\": [0.0, "},
        {"\"0\": 15", "\"00\": 15"},
        {"\"0\": 15", "\"0\": -3"},
        {"\"rank\": 8", "\"rank\": 257"},
        {"{", "[{"},
        {"\"rank\": 8", "\"rank\": 8, \"rank\": 8"},
    };
    struct adapter_info info, back;
    struct lvs_error err = {0};
    char path[LVS_PATH_MAX], *text;
    size_t length;
    assert_int_equal(adapter_info_read(folder, &back, &err), LVS_INPUT); /* no file */
    make_info(&info);
    assert_int_equal(adapter_info_write(folder, &info, &err), LVS_OK);
    assert_int_equal(file_join(path, folder, "lvsweep.json", &err), LVS_OK);
    assert_int_equal(file_read(path, 1 << 20, &text, &length, &err), LVS_OK);
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        char *changed = replaced(text, changes[i][0], changes[i][1]);
        assert_int_equal(file_write_whole(path, changed, strlen(changed), &err), LVS_OK);
        if (adapter_info_read(folder, &back, &err) != LVS_INPUT) fail_msg("accepted: %s", changes[i][1]);
        assert_non_null(strstr(err.text, "lvsweep.json"));
        free(changed);
    }
    free(text);
}

static void folders_are_copied_whole(void **state) {
    (void)state;
    char from[LVS_PATH_MAX], to[LVS_PATH_MAX], empty[LVS_PATH_MAX], file[LVS_PATH_MAX];
    struct adapter_info info, back;
    struct lvs_error err = {0};
    make_info(&info);
    assert_int_equal(file_join(from, folder, "adapter", &err), LVS_OK);
    assert_int_equal(file_join(to, folder, "copy", &err), LVS_OK);
    assert_int_equal(file_join(empty, folder, "empty", &err), LVS_OK);
    assert_int_equal(adapter_export(from, to, &err), LVS_INPUT);
    assert_false(file_exists(to));
    assert_int_equal(adapter_info_write(from, &info, &err), LVS_OK);
    assert_int_equal(file_join(file, from, "adapter_model.safetensors", &err), LVS_OK);
    assert_int_equal(file_write_whole(file, "bytes", 5, &err), LVS_OK);
    assert_int_equal(adapter_export(from, to, &err), LVS_OK);
    assert_int_equal(adapter_info_read(to, &back, &err), LVS_OK);
    assert_int_equal(file_join(file, to, "adapter_model.safetensors", &err), LVS_OK);
    assert_true(file_exists(file));
    assert_int_equal(adapter_export(from, to, &err), LVS_OUTPUT); /* is there already */
    assert_non_null(strstr(err.text, "exists already"));
    assert_int_equal(file_make_folder(empty, &err), LVS_OK);
    assert_int_equal(unlink(file), 0);
    assert_int_equal(file_join(file, folder, "other", &err), LVS_OK);
    assert_int_equal(adapter_export(empty, file, &err), LVS_INPUT);
    assert_false(file_exists(file));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(information_comes_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(wrong_information_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(folders_are_copied_whole, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
