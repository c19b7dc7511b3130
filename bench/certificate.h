// A certificate for this run alone.
#ifndef YOIO_BENCH_CERTIFICATE_H_
#define YOIO_BENCH_CERTIFICATE_H_

#include <string>

namespace yoio::bench {

// Both in PEM.
struct Certificate {
  std::string key;
  std::string chain;
};

// Self-signed by a fresh P-256 key, for 127.0.0.1, valid for an hour.
Certificate MakeCertificate();

}  // namespace yoio::bench

#endif  // YOIO_BENCH_CERTIFICATE_H_
