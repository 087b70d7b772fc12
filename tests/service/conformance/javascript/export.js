// A stock OpenTelemetry exporter as a client: node export.js URL json|protobuf none|gzip RUN STEPS
//
// Sends the steps of a run, the last of them with a NaN, and prints what the SDK made of it.
import { DiagLogLevel, diag } from "@opentelemetry/api";
import { OTLPLogExporter as JsonExporter } from "@opentelemetry/exporter-logs-otlp-http";
import { OTLPLogExporter as ProtobufExporter } from "@opentelemetry/exporter-logs-otlp-proto";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BatchLogRecordProcessor, LoggerProvider } from "@opentelemetry/sdk-logs";

const [base, encoding, compression, run, steps] = process.argv.slice(2);
const told = [];
const tell = (...words) => told.push(words.map(String).join(" "));
diag.setLogger(
  { error: tell, warn: tell, info: tell, debug: () => {}, verbose: () => {} },
  { logLevel: DiagLogLevel.INFO, suppressOverrideMessage: true },
);

const Exporter = encoding === "json" ? JsonExporter : ProtobufExporter;
const exporter = new Exporter({ url: `${base}/v1/logs`, compression, timeoutMillis: 30_000 });
const results = [];
const send = exporter.export.bind(exporter);
exporter.export = (records, done) =>
  send(records, (result) => {
    results.push(result.code);
    done(result);
  });

const provider = new LoggerProvider({
  resource: resourceFromAttributes({ "penaltyscope.run.id": run }),
  processors: [new BatchLogRecordProcessor({ exporter, maxExportBatchSize: 512 })],
});
const logger = provider.getLogger("penaltyscope", "1");
for (let seq = 0; seq < Number(steps); seq += 1) {
  logger.emit({
    eventName: "penaltyscope.pipeline.stop",
    severityNumber: 9,
    attributes: {
      "penaltyscope.pipeline": "distillation",
      "penaltyscope.incarnation": "javascript",
      "penaltyscope.step": seq,
      "penaltyscope.seq": seq,
      "penaltyscope.duration": 0.25,
      "penaltyscope.total": 3,
      "penaltyscope.term.names": ["sparsity", "distill"],
      "penaltyscope.term.value": [seq + 0.5, seq === steps - 1 ? NaN : 2],
      "penaltyscope.term.weight": [1, 1],
    },
  });
}
await provider.forceFlush();
await provider.shutdown();
console.log(JSON.stringify({ results, told }));
