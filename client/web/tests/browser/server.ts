// A real raygen-server with its embedded model, on a port of its own.
import { type ChildProcess, spawn } from "node:child_process";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";

const PROGRAM =
  process.env["RAYGEN_SERVER"] ?? fileURLToPath(new URL("../../../../target/debug/raygen-server", import.meta.url));

export interface Server {
  url: string;
  port: number;
  pid: number;
  stop: (signal?: NodeJS.Signals) => Promise<void>;
}

/** Ends when the server says that it is ready. */
export async function startServer(settings: Record<string, string> = {}, port?: number): Promise<Server> {
  const at = port ?? (await freePort());
  const child = spawn(PROGRAM, ["--listen", `127.0.0.1:${at}`, "--device", "cpu"], {
    env: { ...process.env, RAYGEN_DRAIN_TIMEOUT_SECONDS: "1", ...settings },
    stdio: ["ignore", "pipe", "inherit"],
  });
  await ready(child);
  return {
    url: `http://127.0.0.1:${at}`,
    port: at,
    pid: child.pid ?? 0,
    stop: (signal = "SIGTERM") =>
      new Promise((resolve) => {
        if (child.exitCode !== null || child.signalCode !== null) {
          resolve();
          return;
        }
        child.once("exit", () => resolve());
        child.kill(signal);
      }),
  };
}

function ready(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`raygen-server ended with ${code ?? "a signal"}`)));
    child.stdout?.on("data", (data: Buffer) => {
      if (data.toString().includes("is ready on")) resolve();
    });
  });
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once("error", reject);
    probe.listen(0, "127.0.0.1", () => {
      const address = probe.address();
      probe.close(() => (typeof address === "object" && address !== null ? resolve(address.port) : reject(new Error("no port"))));
    });
  });
}
