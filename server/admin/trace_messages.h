// The flight recorder's records as messages of AdminService.
#ifndef YOIO_SERVER_ADMIN_TRACE_MESSAGES_H_
#define YOIO_SERVER_ADMIN_TRACE_MESSAGES_H_

#include "engine/flight_recorder.h"
#include "server/convert.h"
#include "server/request_names.h"
#include "server/wall_clock.h"
#include "yoio/v1/admin.pb.h"

namespace yoio {

void ToProto(const WallClock& clock, TimePoint time, google::protobuf::Timestamp& out);

// Everything but the steps. What a live request has taken so far is its total.
void ToProto(const RequestRecord& record, const WallClock& clock, const ServedModel& model,
             v1::RequestTrace& out);

// A step as `request`, one of its members, sees it. At most 1,024 members are named, so that one step is far
// smaller than a message may be.
void ToProto(const StepRecord& record, RequestNumber request, const WallClock& clock, RequestNames& names,
             v1::StepTrace& out);

}  // namespace yoio

#endif  // YOIO_SERVER_ADMIN_TRACE_MESSAGES_H_
