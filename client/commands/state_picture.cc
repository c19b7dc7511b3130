#include "client/commands/state_picture.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "client/commands/report.h"
#include "client/commands/seconds.h"
#include "client/commands/table.h"

namespace yoio {
namespace {

std::string EngineTable(const v1::EngineState& engine) {
  return Columns({
      {"state of", Readable(engine.time()), engine.draining() ? "draining: new requests are refused" : ""},
      {"step", Grouped(engine.step()), "begun last"},
      {"running", Grouped(engine.running()), "requests"},
      {"waiting", Grouped(engine.waiting()),
       absl::StrCat("requests, ", Grouped(engine.waiting_tokens()), " tokens")},
      {"free blocks", Grouped(engine.free_blocks()), absl::StrCat("of ", Grouped(engine.total_blocks()))},
      {"cached blocks", Grouped(engine.cached_blocks()), "held by the prefix cache alone"},
  });
}

std::string RankTable(const v1::EngineState& engine) {
  Table table({{"rank", true}, {"ended step", true}, {"in step", true}, {"phase"}, {"collective"}});
  for (const v1::RankState& rank : engine.ranks()) {
    table.Add({absl::StrCat(rank.rank()), rank.has_ended_step() ? Grouped(rank.ended_step()) : "none",
               rank.has_step() ? Grouped(rank.step()) : "", rank.phase(), rank.collective()});
  }
  return table.Text();
}

std::string RequestStateTable(const std::vector<v1::RequestState>& requests) {
  Table table({{"request"},
               {"tenant"},
               {"phase"},
               {"age", true},
               {"ahead", true},
               {"prompt done", true},
               {"output", true},
               {"blocks", true},
               {"unread bytes", true}});
  for (const v1::RequestState& request : requests) {
    table.Add({request.request_id(), request.tenant(), request.phase(), Readable(Seconds(request.age())),
               request.phase() == "queued" ? Grouped(request.queue_position()) : "",
               absl::StrCat(Grouped(request.prompt_tokens_done()), "/", Grouped(request.prompt_tokens())),
               Grouped(request.completion_tokens()), Grouped(request.blocks()),
               Grouped(request.unread_bytes())});
  }
  return table.Text();
}

}  // namespace

std::string StatePicture(const v1::EngineState& engine, std::vector<v1::RequestState> requests) {
  std::stable_sort(requests.begin(), requests.end(),
                   [](const auto& a, const auto& b) { return Seconds(a.age()) > Seconds(b.age()); });
  std::string out = EngineTable(engine);
  if (engine.ranks_size() > 0) absl::StrAppend(&out, "\n", RankTable(engine));
  absl::StrAppend(&out, "\n", requests.empty() ? "no live requests\n" : RequestStateTable(requests));
  return out;
}

}  // namespace yoio
