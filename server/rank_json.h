// What a rank is doing, as JSON.
#ifndef YOIO_SERVER_RANK_JSON_H_
#define YOIO_SERVER_RANK_JSON_H_

#include "engine/step_times.h"
#include "nlohmann/json.hpp"

namespace yoio {

// As the message RankState of AdminService: what is not known is left out.
inline nlohmann::ordered_json ToJson(const RankState& rank) {
  nlohmann::ordered_json json = {{"rank", rank.rank}};
  if (rank.ended_step >= 0) json["ended_step"] = rank.ended_step;
  if (rank.step < 0) return json;
  json["step"] = rank.step;
  json["phase"] = NameOf(rank.phase);
  if (rank.collective != Collective::kNone) json["collective"] = NameOf(rank.collective);
  return json;
}

}  // namespace yoio

#endif  // YOIO_SERVER_RANK_JSON_H_
