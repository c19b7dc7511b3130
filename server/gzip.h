// Compression of what is written piece by piece.
#ifndef YOIO_SERVER_GZIP_H_
#define YOIO_SERVER_GZIP_H_

#include <zlib.h>

#include <string>
#include <string_view>

namespace yoio {

// Not thread-safe.
class GzipWriter {
 public:
  GzipWriter();
  ~GzipWriter();
  GzipWriter(const GzipWriter&) = delete;
  GzipWriter& operator=(const GzipWriter&) = delete;

  void Append(std::string_view text);
  // The whole file. Once, and nothing after it.
  std::string Finish();

 private:
  void Deflate(std::string_view text, int flush);

  z_stream stream_{};
  std::string compressed_;
};

}  // namespace yoio

#endif  // YOIO_SERVER_GZIP_H_
