// What a .gz file holds.
#ifndef YOIO_TESTS_SERVER_GUNZIP_H_
#define YOIO_TESTS_SERVER_GUNZIP_H_

#include <gtest/gtest.h>
#include <zlib.h>

#include <array>
#include <string>

namespace yoio {

inline std::string Gunzip(const std::string& compressed) {
  z_stream stream{};
  EXPECT_EQ(inflateInit2(&stream, 15 + 16), Z_OK);
  std::string text;
  std::array<char, 65536> out;
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(compressed.data()));
  stream.avail_in = static_cast<uInt>(compressed.size());
  int result = Z_OK;
  while (result == Z_OK) {
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = out.size();
    result = inflate(&stream, Z_NO_FLUSH);
    text.append(out.data(), out.size() - stream.avail_out);
  }
  EXPECT_EQ(result, Z_STREAM_END);
  inflateEnd(&stream);
  return text;
}

}  // namespace yoio

#endif  // YOIO_TESTS_SERVER_GUNZIP_H_
