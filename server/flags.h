// The table of yoio-server's settings.
#ifndef YOIO_SERVER_FLAGS_H_
#define YOIO_SERVER_FLAGS_H_

#include <string>
#include <vector>

#include "server/flag_values.h"
#include "server/options.h"

namespace yoio {

// To which processes of one engine a setting means something. What followers need of the leader's settings,
// the leader tells them.
enum class Nodes { kAll, kLeader };

// One setting. `group` is set where a new heading begins.
struct Flag {
  std::string name;         // "max-sequences"
  std::string placeholder;  // "N"; empty for a switch, which needs no value
  std::string help;         // one line; with the value that is shown behind it at most 78 characters
  FlagValue value;
  Nodes nodes = Nodes::kAll;
  std::string group = {};
  std::string origin = "default";

  std::string Option() const;    // "--max-sequences"
  std::string Variable() const;  // "YOIO_MAX_SEQUENCES"
};

// The settings, bound to `options`, in the order of --help.
std::vector<Flag> MakeFlags(ServerOptions& options);

}  // namespace yoio

#endif  // YOIO_SERVER_FLAGS_H_
