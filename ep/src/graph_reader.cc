#include "ep/src/graph_reader.h"

#include <filesystem>
#include <map>

#include "ep/src/ort_types.h"

namespace ryzen_npu_gemma::ep {
namespace {

constexpr std::size_t kSmallConstantBytes = 64;

using CountValues = decltype(OrtApi::Node_GetNumInputs);
using ListValues = decltype(OrtApi::Node_GetInputs);

// A node's inputs, implicit inputs or outputs; null where an optional one is absent.
std::vector<const OrtValueInfo*> List(const Api& api, const OrtNode* node, CountValues count_values,
                                      ListValues list_values) {
  std::size_t count = 0;
  api.Check(count_values(node, &count));
  std::vector<const OrtValueInfo*> values(count);
  api.Check(list_values(node, values.data(), count));
  return values;
}

class Reader {
 public:
  Reader(const Api& api, const OrtGraph* graph, ReadConstants constants)
      : api_(api), ort_(*api.ort), constants_(constants) {
    const ORTCHAR_T* model_path = nullptr;
    api_.Check(ort_.Graph_GetModelPath(graph, &model_path));
    if (model_path && *model_path) folder_ = std::filesystem::path(model_path).parent_path();
    std::size_t count = 0;
    api_.Check(ort_.Graph_GetNumNodes(graph, &count));
    result_.nodes.resize(count);
    api_.Check(ort_.Graph_GetNodes(graph, result_.nodes.data(), count));
  }

  ReadGraphResult Read() {
    for (std::size_t i = 0; i < result_.nodes.size(); ++i)
      result_.graph.nodes.push_back(ReadNode(result_.nodes[i], static_cast<int>(i)));
    return std::move(result_);
  }

 private:
  Node ReadNode(const OrtNode* ort_node, int index) {
    Node node;
    const char *name = nullptr, *op_type = nullptr, *domain = nullptr;
    api_.Check(ort_.Node_GetName(ort_node, &name));
    api_.Check(ort_.Node_GetOperatorType(ort_node, &op_type));
    api_.Check(ort_.Node_GetDomain(ort_node, &domain));
    node.name = name;
    node.op_type = op_type;
    node.domain = domain;
    const auto read_inputs = [&](const std::vector<const OrtValueInfo*>& values) {
      for (const OrtValueInfo* info : values) {
        node.inputs.push_back(ReadValue(info));
        if (node.inputs.back() >= 0) result_.graph.values[node.inputs.back()].consumers.push_back(index);
      }
    };
    read_inputs(List(api_, ort_node, ort_.Node_GetNumInputs, ort_.Node_GetInputs));
    // What a node's subgraphs read counts as its input: the partition must see the dependency.
    read_inputs(List(api_, ort_node, ort_.Node_GetNumImplicitInputs, ort_.Node_GetImplicitInputs));
    for (const OrtValueInfo* info : List(api_, ort_node, ort_.Node_GetNumOutputs, ort_.Node_GetOutputs)) {
      node.outputs.push_back(ReadValue(info));
      if (node.outputs.back() >= 0) result_.graph.values[node.outputs.back()].producer = index;
    }
    ReadAttributes(ort_node, node);
    return node;
  }

  void ReadAttributes(const OrtNode* ort_node, Node& node) {
    std::size_t count = 0;
    api_.Check(ort_.Node_GetNumAttributes(ort_node, &count));
    std::vector<const OrtOpAttr*> attributes(count);
    api_.Check(ort_.Node_GetAttributes(ort_node, attributes.data(), count));
    for (const OrtOpAttr* attribute : attributes) {
      const char* name = nullptr;
      OrtOpAttrType type = ORT_OP_ATTR_UNDEFINED;
      api_.Check(ort_.OpAttr_GetName(attribute, &name));
      api_.Check(ort_.OpAttr_GetType(attribute, &type));
      std::size_t size = 0;
      if (type == ORT_OP_ATTR_INT) {
        int64_t value = 0;
        api_.Check(ort_.ReadOpAttr(attribute, type, &value, sizeof(value), &size));
        node.attributes[name] = value;
      } else if (type == ORT_OP_ATTR_FLOAT) {
        float value = 0;
        api_.Check(ort_.ReadOpAttr(attribute, type, &value, sizeof(value), &size));
        node.attributes[name] = value;
      } else if (type == ORT_OP_ATTR_STRING) {
        // The first call fails and tells the size.
        if (OrtStatus* status = ort_.ReadOpAttr(attribute, type, nullptr, 0, &size)) ort_.ReleaseStatus(status);
        std::string value(size, '\0');
        api_.Check(ort_.ReadOpAttr(attribute, type, value.data(), size, &size));
        node.attributes[name] = std::string(value.c_str());
      }
    }
  }

  int ReadValue(const OrtValueInfo* info) {
    if (!info) return -1;
    const char* name = nullptr;
    api_.Check(ort_.GetValueInfoName(info, &name));
    if (!name || !*name) return -1;
    const auto [it, is_new] = index_.try_emplace(name, static_cast<int>(result_.graph.values.size()));
    if (!is_new) return it->second;
    Value value;
    value.name = name;
    ReadType(info, value);
    api_.Check(ort_.ValueInfo_IsConstantInitializer(info, &value.is_constant));
    api_.Check(ort_.ValueInfo_IsGraphOutput(info, &value.is_graph_output));
    if (value.is_constant) ReadConstant(info, value);
    result_.graph.values.push_back(std::move(value));
    return it->second;
  }

  void ReadType(const OrtValueInfo* info, Value& value) {
    const OrtTypeInfo* type_info = nullptr;
    api_.Check(ort_.GetValueInfoTypeInfo(info, &type_info));
    const OrtTensorTypeAndShapeInfo* tensor = nullptr;
    if (type_info) api_.Check(ort_.CastTypeInfoToTensorInfo(type_info, &tensor));
    if (!tensor) return;
    ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    api_.Check(ort_.GetTensorElementType(tensor, &type));
    value.type = FromOrt(type);
    std::size_t rank = 0;
    api_.Check(ort_.GetDimensionsCount(tensor, &rank));
    std::vector<int64_t> dims(rank, -1);
    std::vector<const char*> symbols(rank, nullptr);
    api_.Check(ort_.GetDimensions(tensor, dims.data(), rank));
    api_.Check(ort_.GetSymbolicDimensions(tensor, symbols.data(), rank));
    value.has_shape = rank > 0;
    for (std::size_t i = 0; i < rank; ++i) value.shape.push_back({dims[i], symbols[i] ? symbols[i] : ""});
  }

  void ReadConstant(const OrtValueInfo* info, Value& value) {
    OrtExternalInitializerInfo* external = nullptr;
    api_.Check(ort_.ValueInfo_GetExternalInitializerInfo(info, &external));
    if (external) {
      const std::filesystem::path path = ort_.ExternalInitializerInfo_GetFilePath(external);
      value.external = {(path.is_absolute() ? path : folder_ / path).string(),
                        ort_.ExternalInitializerInfo_GetFileOffset(external),
                        ort_.ExternalInitializerInfo_GetByteSize(external)};
      ort_.ReleaseExternalInitializerInfo(external);
      if (constants_ == ReadConstants::kSmall && value.external.bytes > kSmallConstantBytes) return;
    }
    const OrtValue* tensor = nullptr;
    api_.Check(ort_.ValueInfo_GetInitializerValue(info, &tensor));
    if (!tensor) return;
    api_.Check(ort_.GetTensorSizeInBytes(tensor, &value.constant.bytes));
    api_.Check(ort_.GetTensorData(tensor, &value.constant.data));
  }

  const Api& api_;
  const OrtApi& ort_;
  const ReadConstants constants_;
  std::filesystem::path folder_;
  std::map<std::string, int, std::less<>> index_;
  ReadGraphResult result_;
};

std::vector<std::string> Names(const Api& api, const std::vector<const OrtValueInfo*>& values) {
  std::vector<std::string> names;
  for (const OrtValueInfo* info : values) {
    const char* name = nullptr;
    if (info) api.Check(api.ort->GetValueInfoName(info, &name));
    if (name && *name) names.emplace_back(name);
  }
  return names;
}

}  // namespace

ReadGraphResult ReadGraph(const Api& api, const OrtGraph* graph, ReadConstants constants) {
  return Reader(api, graph, constants).Read();
}

std::vector<std::string> InputNames(const Api& api, const OrtNode* node) {
  return Names(api, List(api, node, api.ort->Node_GetNumInputs, api.ort->Node_GetInputs));
}

std::vector<std::string> OutputNames(const Api& api, const OrtNode* node) {
  return Names(api, List(api, node, api.ort->Node_GetNumOutputs, api.ort->Node_GetOutputs));
}

}  // namespace ryzen_npu_gemma::ep
