// A certificate made for a test.
#ifndef YOIO_TESTS_CLIENT_CERTIFICATE_H_
#define YOIO_TESTS_CLIENT_CERTIFICATE_H_

#include <gtest/gtest.h>
#include <stdlib.h>

#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace yoio {

// The whole of a small file.
inline std::string Contents(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

// Self-signed for 127.0.0.1 and localhost: whoever takes it as a CA trusts it. Its files lie in gtest's
// temporary folder, under `name`, and stay there.
struct Certificate {
  explicit Certificate(const std::string& name, const std::string& names = "IP:127.0.0.1,DNS:localhost")
      : certificate_file(testing::TempDir() + name + ".pem"), key_file(testing::TempDir() + name + ".key") {
    const std::string command = absl::StrCat(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=", name,
        " -addext subjectAltName=", names, " -keyout ", key_file, " -out ", certificate_file, " 2>/dev/null");
    YOIO_CHECK_EQ(system(command.c_str()), 0);
    certificate = Contents(certificate_file);
    key = Contents(key_file);
  }

  std::string certificate_file, key_file;
  std::string certificate, key;
};

}  // namespace yoio

#endif  // YOIO_TESTS_CLIENT_CERTIFICATE_H_
