/* The table of the CUDA backend and the one symbol that the module shows. Not here: any operation. */
#include "cuda_internal.cuh"

static struct backend table_make(void) {
    struct backend table = {};
    table.name = "cuda";
    table.count = cuda_count;
    table.open = cuda_open;
    table.close = cuda_close;
    table.describe = cuda_describe;
    table.allocate = cuda_allocate;
    table.release = cuda_release;
    table.upload = cuda_upload;
    table.download = cuda_download;
    table.copy = cuda_copy;
    table.fill_zero = cuda_fill_zero;
    table.weight_create = cuda_weight_create;
    table.weight_view = cuda_weight_view;
    table.weight_destroy = cuda_weight_destroy;
    table.break_context = cuda_break_context;
    table.batch_gather = cuda_batch_gather;
    table.embed = cuda_embed;
    table.embed_backward = cuda_embed_backward;
    table.rmsnorm_forward = cuda_rmsnorm_forward;
    table.rmsnorm_backward = cuda_rmsnorm_backward;
    table.matmul_forward = cuda_matmul_forward;
    table.matmul_backward = cuda_matmul_backward;
    table.lora_a_forward = cuda_lora_a_forward;
    table.lora_b_forward = cuda_lora_b_forward;
    table.lora_b_backward = cuda_lora_b_backward;
    table.lora_a_backward = cuda_lora_a_backward;
    table.qkv_bias_rope = cuda_qkv_bias_rope;
    table.qkv_rope_backward = cuda_qkv_rope_backward;
    table.attention_forward = cuda_attention_forward;
    table.attention_backward = cuda_attention_backward;
    table.swiglu_forward = cuda_swiglu_forward;
    table.swiglu_backward = cuda_swiglu_backward;
    table.loss = cuda_loss;
    table.loss_reduce = cuda_loss_reduce;
    table.adam = cuda_adam;
    table.step_advance = cuda_step_advance;
    table.gather_rows = cuda_gather_rows;
    table.kv_store = cuda_kv_store;
    table.attention_cached = cuda_attention_cached;
    table.sample = cuda_sample;
    table.norm_lora_a_forward = cuda_norm_lora_a_forward;
    table.norm_lora_a_backward = cuda_norm_lora_a_backward;
    table.qkv_finish = cuda_qkv_finish;
    table.qkv_finish_backward = cuda_qkv_finish_backward;
    table.synchronize = cuda_synchronize;
    table.graph_begin = cuda_graph_begin;
    table.graph_end = cuda_graph_end;
    table.graph_launch = cuda_graph_launch;
    table.graph_destroy = cuda_graph_destroy;
    table.flops_executed = cuda_flops_executed;
    table.profile_begin = cuda_profile_begin;
    table.profile_write = cuda_profile_write;
    table.tuning_write = cuda_tuning_write;
    table.tuning_read = cuda_tuning_read;
    return table;
}

extern "C" __attribute__((visibility("default"))) const struct backend *lvs_backend_module(void) {
    static const struct backend table = table_make();
    return &table;
}
