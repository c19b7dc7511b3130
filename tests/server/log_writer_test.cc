// Lines get out whole and in order, and whoever logs waits for nobody.
#include "server/log_writer.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace yoio {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

class LogWriterTest : public testing::Test {
 protected:
  void SetUp() override {
    signal(SIGPIPE, SIG_IGN);
    ASSERT_EQ(pipe(ends_), 0);
  }
  void TearDown() override {
    CloseReader();
    close(ends_[1]);
  }

  int file() const { return ends_[1]; }
  void CloseReader() {
    if (ends_[0] >= 0) close(ends_[0]);
    ends_[0] = -1;
  }

  // Reads on a thread of its own what comes until `last` has come.
  std::thread ReadUntil(std::string_view last, std::string& text) {
    return std::thread([fd = ends_[0], last = std::string(last), &text] {
      char buffer[10000];
      while (text.find(last) == std::string::npos) {
        const ssize_t size = read(fd, buffer, sizeof(buffer));
        ASSERT_GT(size, 0);
        text.append(buffer, size);
      }
    });
  }
  // What the pipe holds now; there is something.
  std::string ReadNow() {
    std::string text(100000, '\0');
    text.resize(read(ends_[0], text.data(), text.size()));
    return text;
  }

 private:
  int ends_[2] = {-1, -1};
};

std::string LineOf(int number, size_t size) {
  return absl::StrCat(number, ":", std::string(size, static_cast<char>('a' + number % 26)), "\n");
}

TEST_F(LogWriterTest, ALineIsOutWhenWriteReturns) {
  LogWriter writer(file());
  writer.Write(LogLevel::kInfo, "one\n");
  EXPECT_EQ(ReadNow(), "one\n");
  writer.Write(LogLevel::kInfo, "two\n");
  writer.Write(LogLevel::kInfo, "three\n");
  EXPECT_EQ(ReadNow(), "two\nthree\n");
  EXPECT_TRUE(writer.Flush(seconds(0)));
}

TEST_F(LogWriterTest, LinesWaitForAStalledReader) {
  LogWriter writer(file());
  constexpr int kLines = 500;  // half a megabyte; a pipe holds 64 KiB
  std::string expected;
  for (int i = 0; i < kLines; ++i) {
    const std::string line = LineOf(i, 1000);
    writer.Write(LogLevel::kInfo, line);
    expected += line;
  }
  EXPECT_FALSE(writer.Flush(milliseconds(50)));
  EXPECT_EQ(writer.dropped(), 0);
  std::string text;
  std::thread reader = ReadUntil(LineOf(kLines - 1, 1000), text);
  EXPECT_TRUE(writer.Flush(seconds(30)));
  reader.join();
  EXPECT_EQ(text, expected);
}

TEST_F(LogWriterTest, WhatFindsNoRoomIsCountedAndTold) {
  LogWriter writer(file());
  const int lines = 4 * LogWriter::kRoom / 1000;
  for (int i = 0; i < lines; ++i) writer.Write(LogLevel::kInfo, LineOf(i, 1000));
  const int64_t dropped = writer.dropped();
  EXPECT_GT(dropped, lines / 4);
  writer.Write(LogLevel::kError, "an error finds room\n");
  EXPECT_EQ(writer.dropped(), dropped);

  std::string text;
  std::thread reader = ReadUntil("log lines dropped", text);
  reader.join();
  EXPECT_THAT(text, HasSubstr("an error finds room\n"));
  std::thread rest = ReadUntil("}\n", text);
  EXPECT_TRUE(writer.Flush(seconds(30)));
  rest.join();
  EXPECT_THAT(text, HasSubstr(absl::StrCat("\"count\":", dropped, "}\n")));
  int written = 0;
  for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    written += line.size() > 1000 ? 1 : 0;
  }
  EXPECT_EQ(written + dropped, lines);
  writer.Write(LogLevel::kInfo, "as before\n");
  EXPECT_EQ(ReadNow(), "as before\n");
}

TEST_F(LogWriterTest, ThreadsDoNotMixTheirLines) {
  LogWriter writer(file());
  constexpr int kThreads = 4, kLines = 50;  // together no more than finds room
  std::string text;
  std::thread reader = ReadUntil("end\n", text);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&writer, t] {
      for (int i = 0; i < kLines; ++i) writer.Write(LogLevel::kInfo, LineOf(t, 5000));  // more than PIPE_BUF
    });
  }
  for (std::thread& thread : threads) thread.join();
  writer.Write(LogLevel::kError, "end\n");
  reader.join();
  std::vector<int> lines(kThreads);
  for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    for (int t = 0; t < kThreads; ++t) lines[t] += absl::StrCat(line, "\n") == LineOf(t, 5000);
  }
  EXPECT_EQ(writer.dropped(), 0);
  EXPECT_THAT(lines, testing::Each(kLines));
}

TEST_F(LogWriterTest, WithoutAReaderLinesAreForgotten) {
  LogWriter writer(file());
  CloseReader();
  for (int i = 0; i < 5000; ++i) writer.Write(LogLevel::kInfo, LineOf(i, 1000));
  EXPECT_TRUE(writer.Flush(seconds(0)));
}

TEST_F(LogWriterTest, EndsWhileNobodyReads) {
  LogWriter writer(file());
  for (int i = 0; i < 200; ++i) writer.Write(LogLevel::kInfo, LineOf(i, 1000));
  EXPECT_FALSE(writer.Flush(milliseconds(10)));
}  // the destructor returns

}  // namespace
}  // namespace yoio
