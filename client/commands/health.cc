// `yoio health`: asks the health listener whether a server is ready.
#include "absl/strings/str_cat.h"
#include "client/commands/command.h"
#include "client/commands/report.h"

namespace yoio {
namespace {

using ::grpc::health::v1::HealthCheckResponse;

class HealthCommand : public Command {
 public:
  explicit HealthCommand(CLI::App& app) : Command(app) {
    app.add_option("--service", service_, "\"\" is readiness, liveness is the engine's heartbeat")
        ->type_name("NAME");
    AddCommonOptions(kHealthServer, "YOIOCLI_HEALTH_SERVER");
    AddTimeoutOption();
  }

  int Run() override {
    const absl::StatusOr<HealthCheckResponse> response = CheckHealth(server_, service_, Options());
    if (!response.ok()) return ReportFailedCall(response.status(), server_);
    if (json_) {
      PrintJson(*response);
    } else {
      PrintNow(absl::StrCat(HealthCheckResponse::ServingStatus_Name(response->status()), "\n"));
    }
    return response->status() == HealthCheckResponse::SERVING ? kDone : kUnavailable;
  }

 private:
  std::string service_;
};

}  // namespace

std::unique_ptr<Command> MakeHealthCommand(CLI::App& program) {
  return std::make_unique<HealthCommand>(
      *program.add_subcommand("health", "Ask the health listener whether a server is ready"));
}

}  // namespace yoio
