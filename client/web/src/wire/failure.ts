// Why a call did not end well, told apart by what a person can do about it.
import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../gen/google/rpc/error_details_pb";

export type Failure =
  /** Come back after so many milliseconds. */
  | { kind: "busy"; message: string; retryAfter: number }
  /** The request is wrong: messages by path of the proto field. */
  | { kind: "refused"; message: string; fields: ReadonlyMap<string, string> }
  /** A key is missing or wrong, or may not do this. */
  | { kind: "key"; message: string }
  /** The server is not there, or went away half way. */
  | { kind: "disconnected"; message: string }
  /** Stopped by the person at the page. */
  | { kind: "cancelled" }
  /** Anything else that the server said. */
  | { kind: "failed"; message: string };

const DEFAULT_RETRY = 2000;

export function failureOf(thrown: unknown): Failure {
  const error = ConnectError.from(thrown);
  const message = error.rawMessage;
  const reason = error.findDetails(ErrorInfoSchema)[0]?.reason;
  const retry = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
  const retryAfter =
    retry === undefined ? undefined : Math.max(100, Number(retry.seconds) * 1000 + Math.round(retry.nanos / 1e6));
  // Only the server gives a reason: an error without one comes from the way to it.
  switch (error.code) {
    case Code.Canceled:
      return { kind: "cancelled" };
    case Code.ResourceExhausted:
      return { kind: "busy", message, retryAfter: retryAfter ?? DEFAULT_RETRY };
    case Code.InvalidArgument:
    case Code.FailedPrecondition:
    case Code.NotFound:
      return { kind: "refused", message, fields: fieldsOf(error, reason) };
    case Code.Unauthenticated:
    case Code.PermissionDenied:
      return { kind: "key", message };
    case Code.Unavailable:
      if (retryAfter !== undefined) return { kind: "busy", message, retryAfter };
      return { kind: "disconnected", message: reason === undefined ? "The server does not answer." : message };
    case Code.Unknown:
    case Code.Internal:
    case Code.DataLoss:
    case Code.DeadlineExceeded:
    case Code.Aborted:
      if (reason !== undefined) return { kind: "failed", message };
      return { kind: "disconnected", message: "The connection was lost." };
    default:
      return { kind: "failed", message };
  }
}

function fieldsOf(error: ConnectError, reason: string | undefined): ReadonlyMap<string, string> {
  const violations = error.findDetails(BadRequestSchema).flatMap((detail) => detail.fieldViolations);
  const fields = new Map(violations.map(({ field, description }) => [field, description]));
  if (reason === "MODEL_NOT_FOUND" || reason === "MODEL_NOT_READY") fields.set("model", error.rawMessage);
  return fields;
}
