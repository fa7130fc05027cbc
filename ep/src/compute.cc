#include "ep/src/compute.h"

#include <optional>
#include <vector>

#include "ep/src/device/crew.h"
#include "ep/src/ort_profiler.h"
#include "ep/src/ort_types.h"

namespace ryzen_npu_gemma::ep {
namespace {

// The region's tensors in ORT's kernel context; each is asked for once a run.
class KernelTensors final : public RunTensors {
 public:
  KernelTensors(const Api& api, OrtKernelContext* context) : api_(api), context_(context) {
    std::size_t count = 0;
    api_.Check(api_.ort->KernelContext_GetInputCount(context_, &count));
    inputs_.resize(count);
    api_.Check(api_.ort->KernelContext_GetOutputCount(context_, &count));
    outputs_.resize(count);
  }

  TensorView Input(int index) override {
    std::optional<TensorView>& view = inputs_.at(static_cast<std::size_t>(index));
    if (!view) view = ReadInput(index);
    return *view;
  }

  void* Output(int index, const std::vector<int64_t>& shape) override {
    void*& data = outputs_.at(static_cast<std::size_t>(index));
    if (data) return data;
    OrtValue* value = nullptr;
    api_.Check(api_.ort->KernelContext_GetOutput(context_, static_cast<std::size_t>(index), shape.data(), shape.size(),
                                                 &value));
    if (!value)
      throw Error(ErrorCode::kFail,
                  "onnxruntime gave no tensor for output " + std::to_string(index) + " of the region");
    api_.Check(api_.ort->GetTensorMutableData(value, &data));
    return data;
  }

 private:
  TensorView ReadInput(int index) {
    const OrtValue* value = nullptr;
    api_.Check(api_.ort->KernelContext_GetInput(context_, static_cast<std::size_t>(index), &value));
    if (!value)
      throw Error(ErrorCode::kInvalidArgument, "input " + std::to_string(index) + " of the region is missing");
    TensorView view;
    ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    const int64_t* dims = nullptr;
    std::size_t rank = 0;
    api_.Check(api_.ort->GetTensorElementTypeAndShapeDataReference(value, &type, &dims, &rank));
    view.type = FromOrt(type);
    view.shape.assign(dims, dims + rank);
    api_.Check(api_.ort->GetTensorData(value, &view.data));
    return view;
  }

  const Api& api_;
  OrtKernelContext* context_;
  std::vector<std::optional<TensorView>> inputs_;
  std::vector<void*> outputs_;
};

// The session's intra-op thread pool.
class SessionPool final : public Pool {
 public:
  SessionPool(const Api& api, OrtKernelContext* context) : api_(api), context_(context) {}

  void Call(int most, void (*task)(void*), void* arg) override {
    Task call{task, arg};
    const auto run = [](void* c, std::size_t) { static_cast<Task*>(c)->task(static_cast<Task*>(c)->arg); };
    api_.Check(api_.ort->KernelContext_ParallelFor(context_, run, static_cast<std::size_t>(most), 0, &call));
  }

 private:
  struct Task {
    void (*task)(void*);
    void* arg;
  };

  const Api& api_;
  OrtKernelContext* context_;
};

}  // namespace

ComputeInfo::ComputeInfo(const Api& api, Plan plan, const Options& options, std::shared_ptr<ProfileFile> profile)
    : OrtNodeComputeInfo{},
      api_(api),
      threads_(options.threads),
      profile_(std::move(profile)),
      program_(std::move(plan)) {
  ort_version_supported = api.version;
  CreateState = CreateStateImpl;
  Compute = ComputeImpl;
  ReleaseState = ReleaseStateImpl;
}

OrtStatus* ORT_API_CALL ComputeInfo::CreateStateImpl(OrtNodeComputeInfo* self, OrtNodeComputeContext*, void** state) {
  *state = self;
  return nullptr;
}

OrtStatus* ORT_API_CALL ComputeInfo::ComputeImpl(OrtNodeComputeInfo* self, void*, OrtKernelContext* context) {
  auto& info = *static_cast<ComputeInfo*>(self);
  return Guard(info.api_, [&] {
    KernelTensors tensors(info.api_, context);
    SessionPool pool(info.api_, context);
    OrtProfiler* profiler = OrtProfiler::OfThisThread();
    std::optional<LaunchTimes> times;
    if (profiler || info.profile_) times.emplace();
    Crew::Work(pool, info.threads_,
               [&](Threads& crew) { info.program_.Run(tensors, crew, times ? &*times : nullptr); });
    if (info.profile_) info.profile_->Write(info.program_.launch_names(), *times);
    if (profiler) profiler->Add(info.program_.launch_names(), *times);
  });
}

void ORT_API_CALL ComputeInfo::ReleaseStateImpl(OrtNodeComputeInfo*, void*) {}

}  // namespace ryzen_npu_gemma::ep
