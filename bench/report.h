// A table of measurements, and the same as JSON: {name, value, unit, floor, ratio, hardware, command}.
#ifndef YOIO_BENCH_REPORT_H_
#define YOIO_BENCH_REPORT_H_

#include <string>
#include <vector>

namespace yoio::bench {

struct Result {
  std::string name;  // what/shape/context/batch
  double value = 0;
  std::string unit;      // us, GB/s, GFLOP/s, TFLOP/s, tokens/s, %, x (one value over another)
  double floor = 0;      // the bound that the machine's own ceiling sets, in the same unit; 0: there is none
  bool is_cost = false;  // less is better, as with times
};

// "Intel Xeon, 2 threads".
std::string ProcessorName(int threads);

class Report {
 public:
  // Hardware and command line become part of each result.
  Report(std::string hardware, int argc, char** argv);

  // Keeps the result and prints its row at once. The ratio is the share of the ceiling that was reached:
  // floor / value for times, value / floor for rates.
  void Add(Result result);
  // Whether a result of that name was added: shapes may share what does not depend on them.
  bool Has(const std::string& name) const;
  // Prints a line that is no result: what was left out, and why.
  void Note(const std::string& line);

  // Writes all results to `path`, unless it is empty. False, with a line on standard error, when that fails.
  bool Write(const std::string& path) const;

 private:
  std::string hardware_;
  std::string command_;
  std::vector<Result> results_;
};

}  // namespace yoio::bench

#endif  // YOIO_BENCH_REPORT_H_
