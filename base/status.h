// Early-return helpers for absl::Status and absl::StatusOr.
#ifndef YOIO_BASE_STATUS_H_
#define YOIO_BASE_STATUS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define YOIO_RETURN_IF_ERROR(expression)                                                  \
  do {                                                                                    \
    if (::absl::Status yoio_status = (expression); !yoio_status.ok()) return yoio_status; \
  } while (false)

#define YOIO_STATUS_CONCAT_INNER(a, b) a##b
#define YOIO_STATUS_CONCAT(a, b) YOIO_STATUS_CONCAT_INNER(a, b)

// YOIO_ASSIGN_OR_RETURN(auto value, MakeValue());
#define YOIO_ASSIGN_OR_RETURN(lhs, expression)                             \
  auto YOIO_STATUS_CONCAT(yoio_result_, __LINE__) = (expression);          \
  if (!YOIO_STATUS_CONCAT(yoio_result_, __LINE__).ok())                    \
    return std::move(YOIO_STATUS_CONCAT(yoio_result_, __LINE__)).status(); \
  lhs = *std::move(YOIO_STATUS_CONCAT(yoio_result_, __LINE__))

#endif  // YOIO_BASE_STATUS_H_
