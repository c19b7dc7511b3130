#include "client/commands/timeline.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/commands/gunzip.h"
#include "client/commands/seconds.h"
#include "client/load/axis.h"
#include "client/load/svg.h"
#include "nlohmann/json.hpp"

namespace yoio {
namespace {

using Json = nlohmann::json;

constexpr double kWidth = 1100;
constexpr double kLeft = 90, kRight = 20;
constexpr double kTop = 78;              // of the first lane
constexpr double kLane = 40, kBar = 24;  // a lane, and the bars in it
constexpr double kLeastWidth = 0.4;      // of a bar: a shorter one could not be seen

// Classes of SVG have the names of phases.
constexpr char kLight[] = R"(  .step { fill: #d5d9e0; stroke: #8a93a3; stroke-width: 0.5; }
  .plan { fill: #333333; }
  .inputs { fill: #9aa1ab; } .self_decoder { fill: #2b6cb0; } .index_scores { fill: #26a5b8; }
  .top_k { fill: #8e5bc0; } .index_broadcast { fill: #d9482b; } .cross_decoder { fill: #3a9a4f; }
  .sampling { fill: #e0a526; }
)";
constexpr char kDark[] = R"(    .step { fill: #343a44; stroke: #6a7280; }
    .plan { fill: #f0f0f0; }
)";
constexpr const char* kLegend[] = {"plan",  "inputs",          "self_decoder",  "index_scores",
                                   "top_k", "index_broadcast", "cross_decoder", "sampling"};

struct Bar {
  std::string what;  // "plan", "step" or a phase
  double begin, seconds;
  std::string tip;
};

// The lanes in order, by process and thread.
using LaneKey = std::pair<int, int>;
struct Lane {
  std::string name;
  std::vector<Bar> bars;
};

// "step 1007, 12.5 ms, 2,050 tokens: a 2048, b 1, c 1"
std::string TipOf(const std::string& what, double seconds, const Json& args) {
  std::string tip = absl::StrCat(what, " of step ", args.value("step", int64_t{0}), ", ", Readable(seconds));
  if (what == "step") tip = absl::StrCat("step ", args.value("step", int64_t{0}), ", ", Readable(seconds));
  for (const Json& member : args.value("members", Json::array())) {
    absl::StrAppend(&tip, "\n", member.value("id", std::string()), ": ", member.value("tokens", 0),
                    " tokens");
  }
  return tip;
}

std::map<LaneKey, Lane> LanesOf(const Json& events) {
  std::map<LaneKey, Lane> lanes;
  for (const Json& event : events) {
    const std::string kind = event.value("ph", std::string());
    Lane& lane = lanes[{event.value("pid", 0), event.value("tid", 0)}];
    const Json args = event.value("args", Json::object());
    const std::string name = event.value("name", std::string());
    if (kind == "M" && name == "thread_name") lane.name = args.value("name", std::string());
    if (kind != "X") continue;
    const double seconds = event.value("dur", 0.0) * 1e-6;
    lane.bars.push_back({name, event.value("ts", 0.0) * 1e-6, seconds, TipOf(name, seconds, args)});
  }
  return lanes;
}

class Drawing {
 public:
  explicit Drawing(const std::map<LaneKey, Lane>& lanes)
      : lanes_(lanes), axis_(AxisOver({Length()}, false)) {}

  std::string Svg() const {
    const double bottom = kTop + kLane * static_cast<double>(lanes_.size());
    std::string svg = SvgStart(kWidth, bottom + 40, kLight, kDark);
    AddText(svg, kLeft, 28, "start", "title", "What every rank did");
    AddLegend(svg);
    for (const double tick : axis_.ticks()) {
      AddLine(svg, X(tick), kTop - 8, X(tick), bottom, "grid");
      AddText(svg, X(tick), bottom + 18, "middle", "tick", SecondsLabel(tick));
    }
    double top = kTop;
    for (const auto& [key, lane] : lanes_) {
      AddText(svg, kLeft - 10, top + kBar * 0.7, "end", "name", lane.name);
      for (const Bar& bar : lane.bars) AddBar(svg, bar, top);
      top += kLane;
    }
    svg += "</svg>\n";
    return svg;
  }

 private:
  double Length() const {
    double end = 0;
    for (const auto& [key, lane] : lanes_) {
      for (const Bar& bar : lane.bars) end = std::max(end, bar.begin + bar.seconds);
    }
    return end;
  }

  double X(double seconds) const { return kLeft + axis_.Place(seconds) * (kWidth - kLeft - kRight); }

  // A step is a frame around what was done in it; a plan is a thin bar.
  void AddBar(std::string& svg, const Bar& bar, double top) const {
    const double x = X(bar.begin), width = std::max(X(bar.begin + bar.seconds) - x, kLeastWidth);
    const double inset = bar.what == "step" ? 0 : bar.what == "plan" ? kBar / 3 : 3;
    AddRect(svg, x, top + inset, width, kBar - 2 * inset, bar.what, bar.tip);
  }

  void AddLegend(std::string& svg) const {
    double x = kLeft;
    for (const char* what : kLegend) {
      AddRect(svg, x, 44, 12, 12, what);
      AddText(svg, x + 17, 55, "start", "legend", what);
      x += 34 + 7.4 * static_cast<double>(absl::string_view(what).size());
    }
  }

  const std::map<LaneKey, Lane>& lanes_;
  const Axis axis_;
};

}  // namespace

absl::StatusOr<std::string> TimelineSvg(const std::string& profile) {
  const absl::StatusOr<std::string> text = Gunzip(profile);
  if (!text.ok()) return text.status();
  const Json trace = Json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!trace.is_object() || !trace.contains("traceEvents")) {
    return absl::InvalidArgumentError("no trace in the Chrome trace event format");
  }
  try {
    std::map<LaneKey, Lane> lanes = LanesOf(trace["traceEvents"]);
    std::erase_if(lanes, [](const auto& lane) { return lane.second.bars.empty(); });
    return Drawing(lanes).Svg();
  } catch (const Json::exception& error) {
    return absl::InvalidArgumentError(error.what());
  }
}

}  // namespace yoio
