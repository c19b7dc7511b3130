// Which worlds a model is measured on, and how results name them.
#ifndef YOIO_BENCH_WORLDS_H_
#define YOIO_BENCH_WORLDS_H_

#include <compare>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "bench/lab.h"

namespace yoio::bench {

// So many ranks, and who indexes.
struct World {
  int ranks = 1;
  bool index_by_rows = false;  // each rank its part of the rows, instead of rank 0 all of them
  auto operator<=>(const World&) const = default;

  // "2", or "2-rows".
  std::string name() const;
};

// The options --ranks and --index-sharding.
struct WorldOptions {
  std::vector<int> ranks;  // empty: one, of which no name speaks
  std::vector<std::string> index_sharding = {"rank0"};

  void AddTo(CLI::App& app);

  // In order. One rank indexes in one way.
  std::vector<World> worlds() const;
  // What follows a shape's name: "-tp2", or "-tp2-rows".
  std::string Suffix(const World& world) const;
  // For the heading: what the largest world takes, of devices like the lab's.
  std::string Hardware(const Lab& lab) const;
};

}  // namespace yoio::bench

#endif  // YOIO_BENCH_WORLDS_H_
