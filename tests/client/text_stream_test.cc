#include "client/commands/text_stream.h"

#include <gtest/gtest.h>

#include <string>

namespace yoio {
namespace {

// A TextStream whose output is collected.
class TextStreamTest : public testing::Test {
 protected:
  TextStream Make(int choices) {
    return TextStream(choices, [this](absl::string_view text) { out_.append(text.data(), text.size()); });
  }
  static v1::Delta Delta(int choice, const std::string& text) {
    v1::Delta delta;
    delta.set_choice(choice);
    delta.set_text(text);
    return delta;
  }
  static v1::Finished Finished(int choice) {
    v1::Finished finished;
    finished.set_choice(choice);
    return finished;
  }

  std::string out_;
};

TEST_F(TextStreamTest, OneChoiceIsItsTextAndALineBreak) {
  TextStream stream = Make(1);
  stream.Add(Delta(0, "a"));
  EXPECT_EQ(out_, "a");
  stream.Add(Delta(0, "b"));
  stream.Add(Finished(0));
  stream.Flush();
  EXPECT_EQ(out_, "ab\n");
}

TEST_F(TextStreamTest, ALineBreakIsNotDoubled) {
  TextStream stream = Make(1);
  stream.Add(Delta(0, "a\n"));
  stream.Add(Delta(0, ""));
  stream.Add(Finished(0));
  EXPECT_EQ(out_, "a\n");
}

TEST_F(TextStreamTest, ChoicesComeOneAfterAnother) {
  TextStream stream = Make(3);
  stream.Add(Delta(2, "two"));
  stream.Add(Delta(0, "zero"));
  stream.Add(Finished(2));
  EXPECT_EQ(out_, "--- choice 0 ---\nzero");
  stream.Add(Finished(0));
  stream.Add(Delta(1, "one"));
  EXPECT_EQ(out_, "--- choice 0 ---\nzero\n--- choice 1 ---\none");
  stream.Add(Finished(1));
  EXPECT_EQ(out_, "--- choice 0 ---\nzero\n--- choice 1 ---\none\n--- choice 2 ---\ntwo\n");
}

TEST_F(TextStreamTest, FlushShowsWhatAnUnfinishedStreamHeldBack) {
  TextStream stream = Make(2);
  stream.Add(Delta(0, "zero"));
  stream.Add(Delta(1, "one"));
  stream.Flush();
  EXPECT_EQ(out_, "--- choice 0 ---\nzero\n--- choice 1 ---\none\n");
}

TEST_F(TextStreamTest, ChoicesThatWereNotAskedForAreDropped) {
  TextStream stream = Make(1);
  stream.Add(Delta(7, "x"));
  stream.Add(Finished(7));
  stream.Flush();
  EXPECT_EQ(out_, "");
}

}  // namespace
}  // namespace yoio
