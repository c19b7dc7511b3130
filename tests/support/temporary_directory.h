// A directory of its own for a test, gone with it.
#ifndef YOIO_TESTS_SUPPORT_TEMPORARY_DIRECTORY_H_
#define YOIO_TESTS_SUPPORT_TEMPORARY_DIRECTORY_H_

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "base/check.h"
#include "gtest/gtest.h"

namespace yoio::test {

class TemporaryDirectory {
 public:
  TemporaryDirectory() : path_(testing::TempDir() + "yoio_XXXXXX") {
    YOIO_CHECK(mkdtemp(path_.data()) != nullptr) << path_;
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::string& path() const { return path_; }

  // Writes a file and returns its path.
  std::string Write(const std::string& name, const std::string& content) const {
    const std::string path = path_ + "/" + name;
    std::ofstream file(path, std::ios::binary);
    file << content;
    YOIO_CHECK(file.flush().good()) << path;
    return path;
  }

 private:
  std::string path_;
};

}  // namespace yoio::test

#endif  // YOIO_TESTS_SUPPORT_TEMPORARY_DIRECTORY_H_
