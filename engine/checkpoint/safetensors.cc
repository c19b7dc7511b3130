#include "engine/checkpoint/safetensors.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/status.h"
#include "engine/checkpoint/safetensors_header.h"
#include "engine/files/json_cursor.h"
#include "engine/files/strict_json.h"
#include "nlohmann/json.hpp"

namespace yoio {
namespace {

constexpr size_t kMaxIndexBytes = size_t{64} << 20;

// FNV-1a: short, and the same on every machine and in every release.
uint64_t HashOn(uint64_t hash, std::string_view bytes) {
  for (const char byte : bytes) hash = (hash ^ static_cast<uint8_t>(byte)) * 0x100000001B3;
  return hash;
}
constexpr uint64_t kHashStart = 0xCBF29CE484222325;

// The beginning of a tensor: enough to tell two trainings of one shape apart, and one page to read.
std::string_view Sample(const TensorView& view) {
  constexpr size_t kSampleBytes = 1024;
  const auto sample = view.bytes.first(std::min(kSampleBytes, view.bytes.size()));
  return {reinterpret_cast<const char*>(sample.data()), sample.size()};
}

std::string ShapeText(std::span<const int64_t> shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

// "weight_map" of an index: file name by tensor name.
absl::StatusOr<std::map<std::string, std::string>> ParseWeightMap(std::string_view json,
                                                                  const std::string& origin) {
  YOIO_ASSIGN_OR_RETURN(const nlohmann::json document, ParseJson(json, origin));
  const JsonCursor weight_map = JsonCursor(document, origin)["weight_map"];
  YOIO_RETURN_IF_ERROR(weight_map.IsObject());
  std::map<std::string, std::string> file_of;
  for (const auto& [tensor, value] : weight_map.value().get_ref<const nlohmann::json::object_t&>()) {
    const JsonCursor entry = weight_map[tensor];
    YOIO_ASSIGN_OR_RETURN(std::string file, entry.String());
    if (file.empty() || absl::StrContains(file, '/') || absl::StrContains(file, "..") ||
        absl::StrContains(file, '\0')) {
      return entry.MustBe("the name of a file in the same directory");
    }
    file_of.emplace(tensor, std::move(file));
  }
  return file_of;
}

}  // namespace

Checkpoint::Checkpoint(std::string origin) : origin_(std::move(origin)), hash_(kHashStart) {}

absl::StatusOr<std::unique_ptr<Checkpoint>> Checkpoint::Open(const std::string& dir) {
  const std::string index_path = dir + "/model.safetensors.index.json";
  const absl::StatusOr<MappedFile> index = MappedFile::Open(index_path, kMaxIndexBytes);
  if (absl::IsNotFound(index.status())) {
    auto single = OpenFile(dir + "/model.safetensors");
    if (!absl::IsNotFound(single.status())) return single;
    return absl::NotFoundError(
        absl::StrCat(dir, ": holds neither model.safetensors nor model.safetensors.index.json"));
  }
  YOIO_RETURN_IF_ERROR(index.status());
  YOIO_ASSIGN_OR_RETURN(const auto file_of, ParseWeightMap(index->text(), index_path));

  std::set<std::string> files;
  for (const auto& [tensor, file] : file_of) files.insert(file);
  auto checkpoint = absl::WrapUnique(new Checkpoint(dir));
  for (const std::string& file : files) {
    YOIO_ASSIGN_OR_RETURN(const auto names, checkpoint->AddFile(absl::StrCat(dir, "/", file)));
    for (const std::string& name : names) {
      const auto listed = file_of.find(name);
      if (listed != file_of.end() && listed->second == file) continue;
      return absl::InvalidArgumentError(absl::StrCat(index_path, ": must list tensor ", Quoted(name),
                                                     " in file ", Quoted(file), ", which holds it"));
    }
  }
  for (const auto& [tensor, file] : file_of) {
    if (checkpoint->tensors_.contains(tensor)) continue;
    return absl::InvalidArgumentError(absl::StrCat(dir, "/", file, ": must hold tensor ", Quoted(tensor),
                                                   ", which ", index_path, " lists"));
  }
  return checkpoint;
}

absl::StatusOr<std::unique_ptr<Checkpoint>> Checkpoint::OpenFile(const std::string& path) {
  auto checkpoint = absl::WrapUnique(new Checkpoint(path));
  YOIO_RETURN_IF_ERROR(checkpoint->AddFile(path).status());
  return checkpoint;
}

absl::StatusOr<std::vector<std::string>> Checkpoint::AddFile(const std::string& path) {
  YOIO_ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  YOIO_ASSIGN_OR_RETURN(SafetensorsHeader header, ParseSafetensorsHeader(file.text(), path));
  hash_ = HashOn(hash_, header.prefix);
  std::vector<std::string> names;
  for (auto& [name, view] : header.tensors) {
    hash_ = HashOn(hash_, Sample(view));
    if (!tensors_.emplace(name, std::move(view)).second) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": tensor ", Quoted(name), " is in another file too"));
    }
    names.push_back(std::move(name));
  }
  files_.push_back(std::move(file));
  return names;
}

absl::StatusOr<TensorView> Checkpoint::Get(std::string_view name) const {
  const auto found = tensors_.find(std::string(name));
  if (found == tensors_.end()) {
    return absl::NotFoundError(absl::StrCat(origin_, ": no tensor ", Quoted(name)));
  }
  return found->second;
}

absl::StatusOr<TensorView> Checkpoint::Get(std::string_view name, std::span<const int64_t> shape) const {
  YOIO_ASSIGN_OR_RETURN(TensorView view, Get(name));
  if (!std::ranges::equal(view.shape, shape)) {
    return absl::InvalidArgumentError(absl::StrCat(origin_, ": tensor ", Quoted(name), " must have shape ",
                                                   ShapeText(shape), ", got ", ShapeText(view.shape)));
  }
  return view;
}

std::string Checkpoint::fingerprint() const { return absl::StrFormat("%016x", hash_); }

}  // namespace yoio
