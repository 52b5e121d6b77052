import { Code, ConnectError } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../../src/gen/google/rpc/error_details_pb";
import { failureOf } from "../../src/wire/failure";

const info = (reason: string) => ({ desc: ErrorInfoSchema, value: { reason, domain: "raygen" } });

describe("a failure", () => {
  it("of a full server says when to come back", () => {
    const retry = { desc: RetryInfoSchema, value: { retryDelay: { seconds: 1n, nanos: 500_000_000 } } };
    const error = new ConnectError("full", Code.ResourceExhausted, undefined, [info("QUEUE_FULL"), retry]);
    expect(failureOf(error)).toEqual({ kind: "busy", message: "full", retryAfter: 1500 });
  });
  it("of a wrong request names the fields", () => {
    const bad = { desc: BadRequestSchema, value: { fieldViolations: [{ field: "sampling.seed", description: "is odd" }] } };
    const failure = failureOf(new ConnectError("x", Code.InvalidArgument, undefined, [info("FIELD_INVALID"), bad]));
    expect(failure.kind === "refused" && failure.fields.get("sampling.seed")).toBe("is odd");
  });
  it("on the way to the server is no answer of the server", () => {
    expect(failureOf(new TypeError("Failed to fetch")).kind).toBe("disconnected");
    expect(failureOf(new ConnectError("missing trailer", Code.Internal)).kind).toBe("disconnected");
    expect(failureOf(new ConnectError("NaN", Code.Internal, undefined, [info("NUMERIC_FAILURE")])).kind).toBe("failed");
  });
  it("of a missing key asks for one", () => {
    expect(failureOf(new ConnectError("key", Code.Unauthenticated)).kind).toBe("key");
  });
});
