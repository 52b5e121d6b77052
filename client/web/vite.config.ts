// Builds the page into the server's source tree, under names that do not change: the server compiles them in.
import { defineConfig } from "vite";

const NOTICE =
  "/*! RayGen dashboard, MIT OR Apache-2.0. Contains Preact and its signals (MIT, Jason Miller, Preact Team), " +
  "Connect and Protobuf for ECMAScript (Apache-2.0, The Connect Authors, Buf Technologies). */";

export default defineConfig({
  base: "./",
  build: {
    outDir: "../../server/dashboard",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: false,
    assetsInlineLimit: 0,
    rolldownOptions: {
      output: {
        entryFileNames: "app.js",
        assetFileNames: "app[extname]",
        codeSplitting: false,
        banner: NOTICE,
      },
    },
  },
  server: {
    proxy: Object.fromEntries(
      ["/raygen.v1.RayGenService", "/raygen.v1.ModelService", "/status.json"].map((path) => [
        path,
        process.env["RAYGEN_ENDPOINT"] ?? "http://127.0.0.1:50051",
      ]),
    ),
  },
});
