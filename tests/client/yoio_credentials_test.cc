// The `yoio` binary with TLS and an API key: what it sends, and how it says what is wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <tuple>
#include <vector>

#include "tests/client/certificate.h"
#include "tests/client/run_command.h"
#include "tests/client/scripted_server.h"

namespace yoio {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr char kKey[] = "k-right";

std::shared_ptr<grpc::ServerCredentials> ServerTls(const Certificate& certificate) {
  grpc::SslServerCredentialsOptions options;
  options.pem_key_cert_pairs.push_back({certificate.key, certificate.certificate});
  return grpc::SslServerCredentials(options);
}

// Takes calls that bring kKey, as a server with --api-keys does.
void AskForKey(ScriptedServer& server) {
  server.generate = [](grpc::ServerContext* context, const auto&, auto* writer) {
    const auto entry = context->client_metadata().find("authorization");
    if (entry == context->client_metadata().end() || entry->second != absl::StrCat("Bearer ", kKey)) {
      return RichStatus(grpc::StatusCode::UNAUTHENTICATED, "the API key is not known", "BAD_CREDENTIAL", {});
    }
    WriteStream(writer, {"let in"});
    return grpc::Status::OK;
  };
}

CommandResult Generate(const std::string& server, std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {YOIO_BINARY, "generate", "hello", "--server", server});
  return RunCommand(arguments);
}

std::string WriteFile(const std::string& name, const std::string& content) {
  const std::string path = testing::TempDir() + name;
  std::ofstream(path) << content;
  return path;
}

void ExpectTwoLines(const CommandResult& result, int exit_code, const std::string& what,
                    const std::string& what_to_do) {
  EXPECT_EQ(result.exit_code, exit_code) << result.err;
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 2) << result.err;
  const std::string first = result.err.substr(0, result.err.find('\n'));
  EXPECT_THAT(first, AllOf(StartsWith("yoio: "), HasSubstr(what)));
  EXPECT_THAT(result.err.substr(first.size()), HasSubstr(what_to_do));
}

TEST(YoioCredentialsTest, AKeyInAFileLetsIn) {
  ScriptedServer server;
  AskForKey(server);
  const std::string file = WriteFile("yoio_right_key", "k-right\n");
  EXPECT_EQ(Generate(server.address(), {"--api-key-file", file}).out, "let in\n");
  setenv("YOIOCLI_API_KEY_FILE", file.c_str(), 1);
  EXPECT_EQ(Generate(server.address(), {}).out, "let in\n");
  unsetenv("YOIOCLI_API_KEY_FILE");
}

TEST(YoioCredentialsTest, AWrongKeyIsNamedByItsReasonAndNotShown) {
  ScriptedServer server;
  AskForKey(server);
  const std::string file = WriteFile("yoio_wrong_key", "k-wrong\n");
  const CommandResult result = Generate(server.address(), {"--api-key-file", file});
  ExpectTwoLines(result, 1, "UNAUTHENTICATED, BAD_CREDENTIAL", "--api-key-file");
  EXPECT_THAT(result.err, Not(HasSubstr("k-wrong")));
}

TEST(YoioCredentialsTest, FilesThatCannotBeUsedAreTwoLinesAndNoCall) {
  const Certificate certificate("yoio_lonely");
  const std::string empty = WriteFile("yoio_empty", ""), two_lines = WriteFile("yoio_two_lines", "a\nb\n");
  for (const auto& [arguments, said] : std::vector<std::tuple<std::vector<std::string>, std::string>>{
           {{"--api-key-file", "/nonexistent"}, "/nonexistent cannot be opened"},
           {{"--api-key-file", empty}, "holds no key"},
           {{"--api-key-file", two_lines}, "holds no key"},
           {{"--tls-ca", "/nonexistent"}, "/nonexistent cannot be opened"},
           {{"--tls-ca", empty}, "holds no certificate"},
           {{"--tls-cert", certificate.certificate_file}, "go together"},
           {{"--tls-key", certificate.key_file}, "go together"}}) {
    ExpectTwoLines(Generate("127.0.0.1:1", arguments), 2, said, "--tls-ca");
  }
}

TEST(YoioCredentialsTest, TlsWorksAndSaysWhyWhenItDoesNot) {
  const Certificate certificate("yoio_server"), other("yoio_other"),
      elsewhere("yoio_elsewhere", "DNS:elsewhere");
  ScriptedServer server(ServerTls(certificate)), misnamed(ServerTls(elsewhere)), plain;
  AskForKey(server);
  AskForKey(plain);
  const std::string key = WriteFile("yoio_tls_key", "k-right\n");
  const std::string& ca = certificate.certificate_file;
  EXPECT_EQ(Generate(server.address(), {"--tls-ca", ca, "--api-key-file", key}).out, "let in\n");

  ExpectTwoLines(Generate(server.address(), {"--tls-ca", other.certificate_file}), 3,
                 "its certificate is not signed by a CA that this client trusts", "--tls-ca");
  ExpectTwoLines(Generate(server.address(), {"--tls"}), 3,
                 "its certificate is not signed by a CA that this client trusts", "--tls-ca");
  ExpectTwoLines(Generate(misnamed.address(), {"--tls-ca", elsewhere.certificate_file}), 3,
                 "its certificate is for another name", "--server");
  ExpectTwoLines(Generate(plain.address(), {"--tls-ca", ca}), 3, "it does not speak TLS", "Leave --tls");
  ExpectTwoLines(Generate(server.address(), {}), 3, "it closed the connection", "--tls");
}

}  // namespace
}  // namespace yoio
