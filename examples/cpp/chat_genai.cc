// A chat through onnxruntime-genai's C++ API on RyzenNPUGemmaEP:  chat_genai MODEL_FOLDER EP_LIBRARY
//
// EP_LIBRARY is what `python -c "import onnxruntime_ep_ryzen_npu_gemma as e; print(e.get_library_path())"` prints.
// The folder is one that `ryzen-npu-gemma convert` wrote; its genai_config.json names the execution provider.

#include <exception>
#include <iostream>
#include <memory>
#include <string>

#include "ort_genai.h"

namespace {

constexpr int kAnswerTokens = 256;
const std::string kBos = "<bos>";

// One message as JSON; genai's own template engine reads it.
std::string UserTurn(const std::string& text) {
  std::string json = R"([{"role": "user", "content": ")";
  for (const char c : text) {
    if (c == '"' || c == '\\') json += '\\';
    if (static_cast<unsigned char>(c) >= 0x20) json += c;
  }
  return json + R"("}])";
}

void Chat(const char* folder) {
  const auto model = OgaModel::Create(folder);
  const auto tokenizer = OgaTokenizer::Create(*model);
  const auto params = OgaGeneratorParams::Create(*model);
  params->SetSearchOption("max_length", 4096);
  params->SetSearchOptionBool("do_sample", false);
  const auto generator = OgaGenerator::Create(*model, *params);  // holds the KV cache: a turn runs only what is new

  std::string line;
  for (bool first = true; std::getline(std::cin, line); first = false) {
    std::string text =
        static_cast<const char*>(tokenizer->ApplyChatTemplate("", UserTurn(line).c_str(), nullptr, true));
    if (!first) {  // what ends the answer before; the conversation has its <bos> already
      text = "<end_of_turn>\n" + (text.starts_with(kBos) ? text.substr(kBos.size()) : text);
      if (!generator->IsDone()) generator->GetLogits();  // cut off: its last token has been chosen but not run
    }
    const auto tokens = OgaSequences::Create();
    tokenizer->Encode(text.c_str(), *tokens);
    generator->AppendTokenSequences(*tokens);
    const auto stream = OgaTokenizerStream::Create(*tokenizer);
    for (int i = 0; i < kAnswerTokens && !generator->IsDone(); ++i) {
      generator->GenerateNextToken();
      std::cout << stream->Decode(generator->GetNextTokens()[0]) << std::flush;
    }
    std::cout << std::endl;
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: chat_genai MODEL_FOLDER EP_LIBRARY\n";
    return 2;
  }
  const OgaHandle shutdown;  // frees genai's own state at the end
  try {
    OgaRegisterExecutionProviderLibrary("RyzenNPUGemmaEP", argv[2]);
    Chat(argv[1]);
  } catch (const std::exception& error) {
    std::cerr << "chat_genai: " << error.what() << "\n";
    return 1;
  }
  return 0;
}
