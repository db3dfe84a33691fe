/* Recorded sequences of operations: stream capture into a CUDA graph. Invariant: what a graph points to (scratch
 * included) lives at least as long as the device. */
#include <cstdlib>

#include "cuda_internal.cuh"

void cuda_graph_begin(struct device *device) {
    assert(!device->capturing);
    device_select(device);
    lora_reduce_flush(device);
    device->capturing = true;
    device->n_graphs++;
    device->flops_before_capture = device->flops;
    device_check(device, cudaStreamBeginCapture(device->stream, cudaStreamCaptureModeThreadLocal), "graph_begin");
}

static enum lvs_status capture_refuse(struct device *device, cudaGraph_t graph, struct lvs_error *err) {
    if (graph != nullptr) cudaGraphDestroy(graph);
    cudaGetLastError();
    device->n_graphs--;
    enum lvs_status status = lvs_fail(err, LVS_LAUNCH, "%s", device->error.text);
    device->error.status = LVS_OK;
    return status;
}

enum lvs_status cuda_graph_end(struct device *device, struct device_graph **out, struct lvs_error *err) {
    assert(device->capturing);
    device_select(device);
    lora_reduce_flush(device);
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    device_check(device, cudaStreamEndCapture(device->stream, &graph), "recording a graph");
    device->capturing = false;
    double flops = device->flops - device->flops_before_capture;
    device->flops = device->flops_before_capture;
    if (device->error.status != LVS_OK) return capture_refuse(device, graph, err);
    if (!device_check(device, cudaGraphInstantiate(&executable, graph, 0), "preparing a graph"))
        return capture_refuse(device, graph, err);
    cudaGraphDestroy(graph);
    struct device_graph *made = static_cast<struct device_graph *>(lvs_calloc(1, sizeof *made));
    made->executable = executable;
    made->flops = flops;
    *out = made;
    return LVS_OK;
}

void cuda_graph_launch(struct device *device, struct device_graph *graph) {
    device_select(device);
    lora_reduce_flush(device);
    device_check(device, cudaGraphLaunch(graph->executable, device->stream), "graph_launch");
    device->flops += graph->flops;
}

void cuda_graph_destroy(struct device *device, struct device_graph *graph) {
    if (graph == nullptr) return;
    device_select(device);
    cudaStreamSynchronize(device->stream);
    cudaGraphExecDestroy(graph->executable);
    device->n_graphs--;
    free(graph);
}
