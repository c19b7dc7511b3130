#include "server/gzip.h"

#include <array>
#include <utility>

#include "base/check.h"

namespace yoio {
namespace {

constexpr int kGzipWindowBits = 15 + 16;  // the largest window; 16 asks for gzip's header and checksum
constexpr int kMemoryLevel = 8;           // zlib's default

}  // namespace

GzipWriter::GzipWriter() {
  const int result =
      deflateInit2(&stream_, Z_BEST_SPEED, Z_DEFLATED, kGzipWindowBits, kMemoryLevel, Z_DEFAULT_STRATEGY);
  YOIO_CHECK(result == Z_OK) << "zlib: " << result;
}

GzipWriter::~GzipWriter() { deflateEnd(&stream_); }

void GzipWriter::Append(std::string_view text) { Deflate(text, Z_NO_FLUSH); }

std::string GzipWriter::Finish() {
  Deflate({}, Z_FINISH);
  return std::move(compressed_);
}

void GzipWriter::Deflate(std::string_view text, int flush) {
  std::array<char, 16384> out;
  stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));  // zlib only reads it
  stream_.avail_in = static_cast<uInt>(text.size());
  do {
    stream_.next_out = reinterpret_cast<Bytef*>(out.data());
    stream_.avail_out = out.size();
    deflate(&stream_, flush);
    compressed_.append(out.data(), out.size() - stream_.avail_out);
  } while (stream_.avail_out == 0);
}

}  // namespace yoio
