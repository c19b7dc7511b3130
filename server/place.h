// Where in a cluster this server runs.
#ifndef YOIO_SERVER_PLACE_H_
#define YOIO_SERVER_PLACE_H_

#include <string>

#include "server/options.h"

namespace yoio {

// Empty: not known, as outside Kubernetes.
struct Place {
  std::string pod;
  std::string node;
};

// From K8S_POD_NAME or else POD_NAME, and K8S_NODE_NAME or else NODE_NAME: what a chart sets from the
// downward API. Values that are no name of Kubernetes (more than 253 characters, or others than a-z, A-Z,
// 0-9, '-' and '.') count as not set.
Place PlaceOf(const Environment& environment);

}  // namespace yoio

#endif  // YOIO_SERVER_PLACE_H_
