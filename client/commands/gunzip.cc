#include "client/commands/gunzip.h"

#include <zlib.h>

#include <memory>
#include <vector>

namespace yoio {
namespace {

constexpr size_t kMaxBytes = size_t{1} << 30;
constexpr size_t kPieceBytes = size_t{256} << 10;
constexpr int kWindowBitsOfGzip = 15 + 16;

}  // namespace

absl::StatusOr<std::string> Gunzip(const std::string& compressed) {
  z_stream stream{};
  if (inflateInit2(&stream, kWindowBitsOfGzip) != Z_OK) return absl::InternalError("zlib does not start");
  const std::unique_ptr<z_stream, int (*)(z_stream*)> end(&stream, &inflateEnd);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(compressed.data()));
  stream.avail_in = static_cast<uInt>(compressed.size());
  std::string content;
  std::vector<char> piece(kPieceBytes);
  int result = Z_OK;
  while (result == Z_OK && content.size() < kMaxBytes) {
    stream.next_out = reinterpret_cast<Bytef*>(piece.data());
    stream.avail_out = static_cast<uInt>(piece.size());
    result = inflate(&stream, Z_NO_FLUSH);
    content.append(piece.data(), piece.size() - stream.avail_out);
  }
  if (result != Z_STREAM_END) return absl::InvalidArgumentError("no whole gzip file");
  return content;
}

}  // namespace yoio
