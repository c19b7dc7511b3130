#include "client/load/plot.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/load/axis.h"
#include "client/load/svg.h"

namespace yoio {
namespace {

constexpr double kWidth = 860, kHeight = 380;                       // of one chart
constexpr double kLeft = 80, kRight = 20, kTop = 64, kBottom = 56;  // around its frame
constexpr double kTitle = 48;

constexpr char kLight[] = R"(  .line { fill: none; stroke-width: 2; }
  .dot { stroke-width: 3; }
  .dashed { stroke-dasharray: 6 4; }
  .s0 { stroke: #0b62a4; } .s1 { stroke: #5aa9e0; } .s2 { stroke: #b5430a; }
  .s3 { stroke: #ee9a4d; } .s4 { stroke: #2b7a3f; } .s5 { stroke: #777777; }
)";
constexpr char kDark[] = R"(    .s0 { stroke: #4da3ec; } .s1 { stroke: #a5d3fa; } .s2 { stroke: #f0743a; }
    .s3 { stroke: #f8c48c; } .s4 { stroke: #5fc27a; } .s5 { stroke: #9a9a9a; }
)";

std::string LineStyle(const Series& series, size_t index) {
  return absl::StrCat("line s", index, series.dashed ? " dashed" : "");
}

// One chart with its upper edge at `top`.
class Drawing {
 public:
  Drawing(const Chart& chart, double top)
      : chart_(chart),
        top_(top + kTop),
        bottom_(top + kHeight - kBottom),
        x_(AxisOver(Values(chart, true), chart.log_x)),
        y_(AxisOver(Values(chart, false), chart.log_y)) {}

  void AddTo(std::string& svg) const {
    AddText(svg, kLeft, top_ - 36, "start", "name", chart_.title);
    AddAxes(svg);
    double legend_x = kLeft;
    for (size_t i = 0; i < chart_.series.size(); ++i) {
      const Series& series = chart_.series[i];
      AddCurve(svg, series, i);
      AddLine(svg, legend_x, top_ - 16, legend_x + 22, top_ - 16, LineStyle(series, i));
      AddText(svg, legend_x + 28, top_ - 12, "start", "legend", series.name);
      legend_x += 50 + 7.2 * static_cast<double>(series.name.size());
    }
  }

 private:
  static std::vector<double> Values(const Chart& chart, bool of_x) {
    std::vector<double> values;
    for (const Series& series : chart.series) {
      for (const auto& [x, y] : series.points) values.push_back(of_x ? x : y);
    }
    return values;
  }

  double X(double value) const { return kLeft + x_.Place(value) * (kWidth - kLeft - kRight); }
  double Y(double value) const { return bottom_ - y_.Place(value) * (bottom_ - top_); }

  void AddAxes(std::string& svg) const {
    for (const double tick : x_.ticks()) {
      AddLine(svg, X(tick), top_, X(tick), bottom_, "grid");
      AddText(svg, X(tick), bottom_ + 18, "middle", "tick", NumberLabel(tick));
    }
    for (const double tick : y_.ticks()) {
      AddLine(svg, kLeft, Y(tick), kWidth - kRight, Y(tick), "grid");
      AddText(svg, kLeft - 8, Y(tick) + 4, "end", "tick",
              chart_.seconds ? SecondsLabel(tick) : NumberLabel(tick));
    }
    AddRect(svg, kLeft, top_, kWidth - kLeft - kRight, bottom_ - top_, "frame");
    AddText(svg, (kLeft + kWidth - kRight) / 2, bottom_ + 40, "middle", "label", chart_.x_label);
  }

  void AddCurve(std::string& svg, const Series& series, size_t index) const {
    std::string path;
    for (const auto& [x, y] : series.points) {
      if ((chart_.log_x && x <= 0) || (chart_.log_y && y <= 0)) continue;
      absl::StrAppendFormat(&path, "%s%.1f,%.1f", path.empty() ? "" : " ", X(x), Y(y));
      absl::StrAppendFormat(&svg, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"1.5\" class=\"dot s%d\"/>\n", X(x),
                            Y(y), index);
    }
    absl::StrAppend(&svg, "<polyline points=\"", path, "\" class=\"", LineStyle(series, index), "\"/>\n");
  }

  const Chart& chart_;
  const double top_, bottom_;
  const Axis x_, y_;
};

template <typename Value>
Series SeriesOf(const char* name, const std::vector<LoadResult>& results, Value value, bool dashed = false) {
  Series series{name, {}, dashed};
  for (const LoadResult& result : results) series.points.emplace_back(result.rate, value(result));
  return series;
}

}  // namespace

std::string ToSvg(const std::string& title, const std::vector<Chart>& charts) {
  const double height = kTitle + kHeight * static_cast<double>(charts.size());
  std::string svg = SvgStart(kWidth, height, kLight, kDark);
  AddText(svg, kLeft, 30, "start", "title", title);
  double top = kTitle;
  for (const Chart& chart : charts) {
    Drawing(chart, top).AddTo(svg);
    top += kHeight;
  }
  svg += "</svg>\n";
  return svg;
}

std::string SweepPlot(const std::vector<LoadResult>& results) {
  using Result = LoadResult;
  double least = INFINITY, most = 0;
  for (const Result& result : results) {
    least = std::min(least, result.rate);
    most = std::max(most, result.rate);
  }
  Chart latency{"Latency", "requests/s offered", true, most > 20 * least, true, {}};
  latency.series = {
      SeriesOf("first token p50", results, [](const Result& r) { return r.all.ttft.p50; }),
      SeriesOf("first token p99", results, [](const Result& r) { return r.all.ttft.p99; }),
      SeriesOf("inter-token p50", results, [](const Result& r) { return r.all.itl.p50; }),
      SeriesOf("inter-token p99", results, [](const Result& r) { return r.all.itl.p99; }),
  };
  Chart rate{"Requests answered, requests/s", "requests/s offered", false, latency.log_x, false, {}};
  rate.series = {
      SeriesOf("completed", results, [](const Result& r) { return r.completed_per_second; }),
      SeriesOf(
          "offered", results, [](const Result& r) { return r.rate; }, true),
      SeriesOf("good", results, [](const Result& r) { return r.good_per_second; }),
  };
  return ToSvg("Latency and goodput against load", {latency, rate});
}

}  // namespace yoio
