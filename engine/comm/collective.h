// What the ranks of a group must agree on before they touch each other's data.
#ifndef YOIO_ENGINE_COMM_COLLECTIVE_H_
#define YOIO_ENGINE_COMM_COLLECTIVE_H_

#include <cstddef>
#include <ostream>

#include "engine/step_times.h"

namespace yoio {

struct CollectiveCall {
  Collective collective;
  size_t bytes;  // that one rank brings
  int root;      // kBroadcast; 0 otherwise

  bool operator==(const CollectiveCall&) const = default;
};

std::ostream& operator<<(std::ostream& out, const CollectiveCall& call);

}  // namespace yoio

#endif  // YOIO_ENGINE_COMM_COLLECTIVE_H_
