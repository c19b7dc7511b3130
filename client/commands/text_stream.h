// Shows the output of several choices as one readable text while it arrives.
#ifndef YOIO_CLIENT_COMMANDS_TEXT_STREAM_H_
#define YOIO_CLIENT_COMMANDS_TEXT_STREAM_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "yoio/v1/event.pb.h"

namespace yoio {

// Writes choice 0 as it arrives and holds the others back until those before them have ended; with more than
// one choice each gets a heading. Every choice ends with a line break. One thread at a time.
class TextStream {
 public:
  // `write` must make what it is given visible at once.
  TextStream(int choices, std::function<void(absl::string_view)> write);

  void Add(const v1::Delta& delta);
  void Add(const v1::Finished& finished);

  // Writes what was held back. For the end of a stream that did not finish its choices.
  void Flush();

 private:
  struct Choice {
    std::string waiting;  // arrived and not yet written
    bool finished = false;
  };

  // Writes what waits of the current choice, and goes on to the next ones while they have finished.
  void Advance();
  void Write(absl::string_view text);
  void EndChoice();

  const std::function<void(absl::string_view)> write_;
  std::vector<Choice> choices_;
  size_t current_ = 0;
  bool heading_written_ = false;
  bool line_open_ = false;  // the last byte written was no line break
};

}  // namespace yoio

#endif  // YOIO_CLIENT_COMMANDS_TEXT_STREAM_H_
