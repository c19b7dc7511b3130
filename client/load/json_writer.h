// Writes JSON.
#ifndef YOIO_CLIENT_LOAD_JSON_WRITER_H_
#define YOIO_CLIENT_LOAD_JSON_WRITER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace yoio {

// Builds one JSON value on one line. Inside an object every value follows a Key. Not thread-safe.
class JsonWriter {
 public:
  JsonWriter& BeginObject() { return Open('{'); }
  JsonWriter& EndObject() { return Close('}'); }
  JsonWriter& BeginArray() { return Open('['); }
  JsonWriter& EndArray() { return Close(']'); }

  JsonWriter& Key(absl::string_view name);
  JsonWriter& Value(absl::string_view text);
  JsonWriter& Value(const char* text) { return Value(absl::string_view(text)); }
  JsonWriter& Value(double number);  // six digits; null when it is not finite
  JsonWriter& Value(int64_t number);
  JsonWriter& Value(int number) { return Value(static_cast<int64_t>(number)); }
  JsonWriter& Value(bool value);

  template <typename T>
  JsonWriter& Field(absl::string_view name, const T& value) {
    return Key(name).Value(value);
  }

  const std::string& text() const { return text_; }

 private:
  JsonWriter& Open(char bracket);
  JsonWriter& Close(char bracket);
  void Separate();
  void Quote(absl::string_view text);

  std::string text_;
  bool first_ = true;  // nothing precedes the next value or key
};

}  // namespace yoio

#endif  // YOIO_CLIENT_LOAD_JSON_WRITER_H_
