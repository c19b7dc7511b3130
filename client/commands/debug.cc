// `yoio debug`: what the engine holds now.
#include <thread>
#include <vector>

#include "client/admin_client.h"
#include "client/commands/command.h"
#include "client/commands/report.h"
#include "client/commands/state_picture.h"

namespace yoio {
namespace {

class DebugCommand : public Command {
 public:
  explicit DebugCommand(CLI::App& app) : Command(app) {
    AddSecondsOption("--watch", watch_, "Show it again and again, this far apart, until Ctrl-C")
        ->group("Options");
    AddCommonOptions(kAdminServer, "YOIOCLI_ADMIN_SERVER");
    AddAdminCredentialOptions();
    AddTimeoutOption();
  }

  int Run() override {
    const std::optional<ChannelOptions> channel = Channel();
    if (!channel) return kUsage;
    AdminClient client(*channel);
    while (true) {
      const int code = Show(client);
      if (code != kDone || !watch_) return code;
      std::this_thread::sleep_for(FromSeconds(*watch_));
      if (!json_) PrintNow("\n");
    }
  }

 private:
  int Show(AdminClient& client) const {
    v1::EngineState engine;
    std::vector<v1::RequestState> requests;
    const auto on_item = [&](const v1::DumpStateResponse& item) {
      if (json_) PrintJson(item);
      if (item.has_engine()) engine = item.engine();
      if (item.has_request()) requests.push_back(item.request());
      return true;
    };
    const absl::Status status = client.DumpState({}, on_item, Options());
    // An engine that hangs is when it matters: the server tells what it knows, then fails the call.
    if (!json_ && engine.has_time()) PrintNow(StatePicture(engine, std::move(requests)));
    return status.ok() ? kDone : ReportFailedCall(status, server_, kAdminListener);
  }

  std::optional<double> watch_;
};

}  // namespace

std::unique_ptr<Command> MakeDebugCommand(CLI::App& program) {
  return std::make_unique<DebugCommand>(
      *program.add_subcommand("debug", "Show what the engine holds now: requests, ranks, blocks"));
}

}  // namespace yoio
