// Axes of charts.
#ifndef YOIO_CLIENT_LOAD_AXIS_H_
#define YOIO_CLIENT_LOAD_AXIS_H_

#include <string>
#include <vector>

namespace yoio {

// A linear or logarithmic scale from its first tick to its last. Immutable.
class Axis {
 public:
  Axis(std::vector<double> ticks, bool logarithmic) : ticks_(std::move(ticks)), logarithmic_(logarithmic) {}

  // From 0 at the first tick to 1 at the last.
  double Place(double value) const;

  // At least two, rising.
  const std::vector<double>& ticks() const { return ticks_; }

 private:
  std::vector<double> ticks_;
  bool logarithmic_;
};

// Covers `values` with ticks at 1, 2 or 5 times a power of ten. A linear one begins at 0; a logarithmic one
// leaves out values that are not above 0. Values are finite.
Axis AxisOver(const std::vector<double>& values, bool logarithmic);

// "0.5", "20", "1500".
std::string NumberLabel(double value);

// "200 us", "50 ms", "2 s".
std::string SecondsLabel(double seconds);

}  // namespace yoio

#endif  // YOIO_CLIENT_LOAD_AXIS_H_
