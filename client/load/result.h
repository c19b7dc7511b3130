// The results of one run, as reports and plots read them.
#ifndef YOIO_CLIENT_LOAD_RESULT_H_
#define YOIO_CLIENT_LOAD_RESULT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "client/load/histogram.h"

namespace yoio {

// Latencies of requests without an injection that were due inside the window.
struct ClassResult {
  std::string name;
  int64_t sent = 0, completed = 0;
  Percentiles ttft, itl, tpot, e2e;
};

// Failed requests with one gRPC code and reason.
struct ErrorCount {
  std::string code;     // "RESOURCE_EXHAUSTED"
  std::string reason;   // "QUEUE_FULL"; empty when no yoio service made the error
  std::string message;  // of the first of them
  int64_t count = 0;
};

// Requests with one injection.
struct InjectionCount {
  int64_t sent = 0;
  int64_t happened = 0;   // cancelled, expired, ended as too slow
  int64_t completed = 0;  // ended well all the same
};

struct LoadResult {
  // How the load was made: the rate of an open loop (0: closed), or the requests at a time of a closed one.
  double rate = 0;
  int concurrency = 0;
  bool poisson = false;
  int connections = 0;
  uint64_t seed = 0;

  double seconds = 0;  // length of the window
  int64_t sent = 0, completed = 0;
  int64_t good = 0;          // ended inside the window and kept every target
  int64_t failed = 0;        // in `errors`; neither injected nor cut off
  int64_t rejected = 0;      // among them, refused before any work: RESOURCE_EXHAUSTED, or INFEASIBLE
  int64_t expired = 0;       // among them: other DEADLINE_EXCEEDED
  int64_t cut_off = 0;       // ended by the end of the run
  int64_t wrong_length = 0;  // completed, with another number of tokens than was asked for
  int64_t peak_live = 0;     // most requests at the same time

  // Inside the window, of all requests.
  double completed_per_second = 0, prompt_tokens_per_second = 0, output_tokens_per_second = 0;
  double messages_per_second = 0, tokens_per_message = 0, good_per_second = 0;

  ClassResult all;
  std::vector<ClassResult> classes;  // more than one when lengths come from a list
  Percentiles rejected_latency;      // from due to the refusal
  std::vector<ErrorCount> errors;
  InjectionCount cancels, expiries, slow_readers;

  // The generator itself.
  Percentiles lateness;  // from due to sent
  double cpu_cores = 0;  // processor time of this process by time
  double cpu_micros_per_message = 0;
  std::vector<std::string> warnings;  // why these numbers may not be what they seem
};

}  // namespace yoio

#endif  // YOIO_CLIENT_LOAD_RESULT_H_
