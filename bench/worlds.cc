#include "bench/worlds.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace yoio::bench {

std::string World::name() const { return absl::StrCat(ranks, index_by_rows ? "-rows" : ""); }

void WorldOptions::AddTo(CLI::App& app) {
  app.add_option("--ranks", ranks, "Numbers of ranks to compare, by commas; every name then carries its own")
      ->check(CLI::PositiveNumber)
      ->delimiter(',');
  app.add_option("--index-sharding", index_sharding,
                 "Who indexes, where there are several ranks: rank0, rows or both, by commas")
      ->check(CLI::IsMember({"rank0", "rows"}))
      ->delimiter(',')
      ->capture_default_str();
}

std::vector<World> WorldOptions::worlds() const {
  if (ranks.empty()) return {World{}};
  std::vector<World> worlds;
  for (const int count : ranks) {
    if (count == 1) {
      worlds.push_back(World{});
    } else {
      for (const std::string& who : index_sharding) worlds.push_back({count, who == "rows"});
    }
  }
  return worlds;
}

std::string WorldOptions::Suffix(const World& world) const {
  return ranks.empty() ? "" : absl::StrCat("-tp", world.name());
}

std::string WorldOptions::Hardware(const Lab& lab) const {
  const int most = ranks.empty() ? 1 : *std::max_element(ranks.begin(), ranks.end());
  return lab.on_gpu() && most > 1 ? absl::StrCat(most, " x ", lab.hardware()) : lab.hardware();
}

}  // namespace yoio::bench
