// Line charts as SVG.
#ifndef YOIO_CLIENT_LOAD_PLOT_H_
#define YOIO_CLIENT_LOAD_PLOT_H_

#include <string>
#include <utility>
#include <vector>

#include "client/load/result.h"

namespace yoio {

struct Series {
  std::string name;
  std::vector<std::pair<double, double>>
      points;  // by rising x; on a logarithmic axis those at 0 are left out
  bool dashed = false;
};

struct Chart {
  std::string title, x_label;
  bool seconds = false;  // y is a time
  bool log_x = false, log_y = false;
  std::vector<Series> series;  // at most six
};

// A whole SVG document, charts below one another. Readable on light and on dark ground: it follows the
// reader's colour scheme.
std::string ToSvg(const std::string& title, const std::vector<Chart>& charts);

// Latencies, then throughput and goodput, against the rate of the runs of a sweep.
std::string SweepPlot(const std::vector<LoadResult>& results);

}  // namespace yoio

#endif  // YOIO_CLIENT_LOAD_PLOT_H_
