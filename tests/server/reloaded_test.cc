// Files that are read again when they change, and secrets in files.
#include "server/reloaded.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <thread>

#include "server/secret_file.h"
#include "tests/server/in_process.h"
#include "tests/support/temporary_directory.h"

namespace yoio {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

constexpr Duration kOften = milliseconds(5);

// Returns once `condition` holds, or a generous while later.
template <typename Condition>
bool Eventually(const Condition& condition) {
  const TimePoint end = Clock::now() + std::chrono::seconds(20);
  while (!condition()) {
    if (Clock::now() > end) return false;
    std::this_thread::sleep_for(milliseconds(1));
  }
  return true;
}

class ReloadedTest : public testing::Test {
 protected:
  auto Open() {
    return Reloaded<std::string>::Open(
        "--secret", {path_}, [path = path_] { return ReadSecretFile(path, 16); }, log_.logger, kOften);
  }

  test::TemporaryDirectory directory_;
  LogCapture log_;
  const std::string path_ = directory_.Write("secret", "one");
};

TEST_F(ReloadedTest, TakesWhatIsWrittenAndWhatIsPutInItsPlace) {
  auto secret = Open();
  ASSERT_TRUE(secret.ok());
  EXPECT_EQ(*(*secret)->current(), "one");
  directory_.Write("secret", "three");
  EXPECT_TRUE(Eventually([&] { return *(*secret)->current() == "three"; }));
  std::filesystem::rename(directory_.Write("next", "seven"), path_);
  EXPECT_TRUE(Eventually([&] { return *(*secret)->current() == "seven"; }));
  EXPECT_THAT(log_.text(), HasSubstr("\"event\":\"reloaded\",\"flag\":\"--secret\""));
}

TEST_F(ReloadedTest, KeepsWhatItHasWhenTheFileCannotBeUsed) {
  auto secret = Open();
  ASSERT_TRUE(secret.ok());
  chmod(path_.c_str(), 0666);
  EXPECT_TRUE(Eventually([&] { return log_.text().find("everybody may write") != std::string::npos; }));
  std::filesystem::remove(path_);
  EXPECT_TRUE(Eventually([&] { return log_.text().find("cannot be read") != std::string::npos; }));
  directory_.Write("secret", "longer than it may be");
  EXPECT_TRUE(Eventually([&] { return log_.text().find("larger than 16 bytes") != std::string::npos; }));
  EXPECT_EQ(*(*secret)->current(), "one");
  directory_.Write("secret", "good");
  EXPECT_TRUE(Eventually([&] { return *(*secret)->current() == "good"; }));
}

TEST_F(ReloadedTest, AFileThatCannotBeUsedAtFirstIsAnError) {
  chmod(path_.c_str(), 0602);
  EXPECT_TRUE(absl::IsPermissionDenied(Open().status()));
  std::filesystem::remove(path_);
  EXPECT_TRUE(absl::IsNotFound(Open().status()));
  EXPECT_TRUE(absl::IsNotFound(ReadSecretFile(directory_.path(), 16).status()));
}

}  // namespace
}  // namespace yoio
