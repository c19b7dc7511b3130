// The search for the load that a server can just carry.
#ifndef YOIO_CLIENT_LOAD_SATURATION_H_
#define YOIO_CLIENT_LOAD_SATURATION_H_

#include <functional>

#include "client/load/result.h"

namespace yoio {

// Whether as many requests were completed as were sent, less 5%. A run that was too short to send anything
// follows nothing.
bool Follows(const LoadResult& result);

// The highest rate at which the server follows, found by halving the range from 0.4 to 1.2 times `capacity`,
// the requests/s that a closed loop has reached, until it is a fortieth of that. `run` makes one open-loop
// run; it is called five times. 0 when the server followed none of them.
double FindSaturation(double capacity, const std::function<LoadResult(double rate)>& run);

}  // namespace yoio

#endif  // YOIO_CLIENT_LOAD_SATURATION_H_
