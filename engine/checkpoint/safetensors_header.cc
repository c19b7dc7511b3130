#include "engine/checkpoint/safetensors_header.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "engine/files/json_cursor.h"
#include "engine/files/strict_json.h"
#include "nlohmann/json.hpp"

namespace yoio {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian");

// The format's own bound.
constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr size_t kLengthBytes = sizeof(uint64_t);

absl::StatusOr<TensorType> ParseType(const JsonCursor& dtype) {
  YOIO_ASSIGN_OR_RETURN(const std::string name, dtype.String());
  if (name == "F32") return TensorType::kF32;
  if (name == "BF16") return TensorType::kBF16;
  if (name == "I32") return TensorType::kI32;
  return dtype.MustBe("F32, BF16 or I32");
}

int64_t BytesPerElement(TensorType type) { return type == TensorType::kBF16 ? 2 : 4; }

absl::StatusOr<std::vector<int64_t>> ParseIntegers(const JsonCursor& array) {
  YOIO_RETURN_IF_ERROR(array.IsArray());
  std::vector<int64_t> integers;
  for (size_t i = 0; i < array.size(); ++i) {
    YOIO_ASSIGN_OR_RETURN(const int64_t integer, array[i].Integer(0, std::numeric_limits<int64_t>::max()));
    integers.push_back(integer);
  }
  return integers;
}

// The dense size in bytes; an error if it does not fit 63 bits.
absl::StatusOr<int64_t> SizeInBytes(const JsonCursor& shape, const std::vector<int64_t>& dims,
                                    TensorType type) {
  int64_t size = BytesPerElement(type);
  for (const int64_t dim : dims) {
    if (__builtin_mul_overflow(size, dim, &size)) return shape.MustBe("of fewer than 2^63 bytes");
  }
  return size;
}

absl::StatusOr<TensorView> ParseTensor(const JsonCursor& entry, std::string_view data) {
  YOIO_RETURN_IF_ERROR(entry.IsObject());
  YOIO_ASSIGN_OR_RETURN(const TensorType type, ParseType(entry["dtype"]));
  YOIO_ASSIGN_OR_RETURN(std::vector<int64_t> shape, ParseIntegers(entry["shape"]));
  YOIO_ASSIGN_OR_RETURN(const int64_t size, SizeInBytes(entry["shape"], shape, type));

  const JsonCursor range = entry["data_offsets"];
  YOIO_ASSIGN_OR_RETURN(const std::vector<int64_t> offsets, ParseIntegers(range));
  if (offsets.size() != 2 || offsets[0] > offsets[1]) return range.MustBe("[BEGIN, END]");
  const auto [begin, end] = std::pair(offsets[0], offsets[1]);
  if (end - begin != size) {
    return range.MustBe(absl::StrCat(size, " bytes apart, as shape and dtype say"),
                        absl::StrCat(end - begin));
  }
  if (end > static_cast<int64_t>(data.size())) {
    const absl::Status error = range.MustBe(
        absl::StrCat("inside the file, which has ", data.size(), " bytes of data"), absl::StrCat(end));
    return absl::DataLossError(error.message());
  }
  const std::string_view bytes = data.substr(begin, size);
  return TensorView{type, std::move(shape), std::as_bytes(std::span(bytes.data(), bytes.size()))};
}

// Tensors must not share bytes. Those without any are nowhere. `tensors` is sorted by first byte.
absl::Status CheckOverlap(const std::vector<SafetensorsHeader::Tensor>& tensors, const std::string& origin) {
  const SafetensorsHeader::Tensor* previous = nullptr;
  for (const auto& tensor : tensors) {
    if (tensor.view.bytes.empty()) continue;
    if (previous != nullptr &&
        previous->view.bytes.data() + previous->view.bytes.size() > tensor.view.bytes.data()) {
      return absl::InvalidArgumentError(absl::StrCat(origin, ": tensors ", Quoted(previous->name), " and ",
                                                     Quoted(tensor.name), " must not overlap"));
    }
    previous = &tensor;
  }
  return absl::OkStatus();
}

// The JSON text after the length field.
absl::StatusOr<std::string_view> HeaderText(std::string_view file, const std::string& origin) {
  if (file.size() < kLengthBytes) {
    return absl::DataLossError(
        absl::StrCat(origin, ": must begin with the 8 bytes of its header's length, got ", file.size()));
  }
  uint64_t length;
  std::memcpy(&length, file.data(), sizeof(length));
  if (length > kMaxHeaderBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(origin, ": header must have at most ", kMaxHeaderBytes, " bytes, got ", length));
  }
  if (length > file.size() - kLengthBytes) {
    return absl::DataLossError(absl::StrCat(origin, ": header has ", length, " bytes, the file only ",
                                            file.size() - kLengthBytes, " after its length"));
  }
  return file.substr(kLengthBytes, length);
}

}  // namespace

absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(std::string_view file, const std::string& origin) {
  YOIO_ASSIGN_OR_RETURN(const std::string_view text, HeaderText(file, origin));
  YOIO_ASSIGN_OR_RETURN(const nlohmann::json document, ParseJson(text, origin));
  const JsonCursor root(document, origin);
  YOIO_RETURN_IF_ERROR(root.IsObject());
  SafetensorsHeader header;
  header.prefix = file.substr(0, kLengthBytes + text.size());
  const std::string_view data = file.substr(header.prefix.size());
  for (const auto& [name, entry] : document.get_ref<const nlohmann::json::object_t&>()) {
    if (name == "__metadata__") continue;
    YOIO_ASSIGN_OR_RETURN(TensorView view, ParseTensor(root[name], data));
    header.tensors.push_back({name, std::move(view)});
  }
  // A stable sort: tensors without bytes stay in the order of their names.
  std::stable_sort(header.tensors.begin(), header.tensors.end(),
                   [](const auto& a, const auto& b) { return a.view.bytes.data() < b.view.bytes.data(); });
  YOIO_RETURN_IF_ERROR(CheckOverlap(header.tensors, origin));
  return header;
}

}  // namespace yoio
