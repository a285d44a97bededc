// The environment (.env) goes in; the names and settings of serverless.yml come out, as `custom`.
//
// What is missing gets the value of .env.example, so that `serverless package` can be tried in a fresh clone; `deploy`
// refuses (see serverless_plugin.js), naming everything in `problems` at once. A setting that a function would refuse
// (settings.py, watchdog.py) is refused here by the same rule: nobody hears a watchdog that fails each hour.

"use strict";

const NAME = /^[A-Za-z][A-Za-z-]{0,29}$/;

const REQUIRED = {
  MBD_FIRST_NAME: { example: "Ada", text: "first name: letters, in bucket names and mail subjects" },
  MBD_LAST_NAME: { example: "Lovelace", text: "last name: letters, in bucket names and mail subjects" },
  MBD_TOPIC_ARN: {
    example: "arn:aws:sns:eu-west-1:000000000000:de-mbd-predict-ada-lovelace-SNS",
    text: "ARN of the SNS topic that mails go to",
  },
};

// Is never quoted, as it may hold a password.
const isServer = (text) => /^https?:\/\/[^/@?#\s][^@?#\s]*$/i.test(text) && URL.canParse(text) && new URL(text).port !== "0";

module.exports = ({ env = process.env, options = {} } = {}) => {
  const problems = [];
  const value = (name) => (env[name] || "").trim();
  const required = (name) => {
    if (!value(name)) problems.push(`${name} is not set (${REQUIRED[name].text})`);
    return value(name) || REQUIRED[name].example;
  };
  const requiredName = (variable) => {
    const name = required(variable);
    if (NAME.test(name)) return name;
    problems.push(`${variable} is ${JSON.stringify(name)}, which cannot stand in a bucket's name: letters and - only`);
    return REQUIRED[variable].example; // or the Framework would stop at its own rules for names, telling nothing else
  };

  const firstName = requiredName("MBD_FIRST_NAME");
  const lastName = requiredName("MBD_LAST_NAME");
  const region = value("AWS_REGION") || "eu-west-1";
  const topicArn = required("MBD_TOPIC_ARN");
  const transport = value("MBD_TRANSPORT") || (value("AIRFLOW_URL") ? "http" : "ssm");
  if (!["http", "ssm"].includes(transport)) problems.push("MBD_TRANSPORT is neither http nor ssm");
  if (transport === "http" && !value("AIRFLOW_URL")) problems.push("MBD_TRANSPORT is http, but AIRFLOW_URL is not set");
  if (transport === "http" && value("AIRFLOW_URL") && !isServer(value("AIRFLOW_URL"))) {
    problems.push("AIRFLOW_URL is not the address of a web server: http:// or https://, host and port, no user, no query");
  }
  const certificateSha256 = value("AIRFLOW_CERTIFICATE_SHA256");
  if (certificateSha256 && !/^[0-9a-f]{64}$/i.test(certificateSha256.replaceAll(":", ""))) {
    problems.push("AIRFLOW_CERTIFICATE_SHA256 is not a SHA-256 fingerprint (64 hex digits)");
  } else if (certificateSha256 && transport === "http" && /^http:/i.test(value("AIRFLOW_URL"))) {
    problems.push("AIRFLOW_CERTIFICATE_SHA256 pins a certificate, but AIRFLOW_URL is plain http, which has none");
  }
  if (transport === "ssm" && !value("MBD_INSTANCE_ID")) {
    problems.push("neither AIRFLOW_URL (Airflow's address) nor MBD_INSTANCE_ID (then SSM carries the command) is set");
  }
  const topic = /^arn:[\w-]+:sns:([\w-]+):\d{12}:[\w-]+$/.exec(topicArn);
  if (!topic) problems.push("MBD_TOPIC_ARN is not the ARN of an SNS topic");
  else if (value("MBD_TOPIC_ARN") && topic[1] !== (options.region || region)) {
    problems.push(`MBD_TOPIC_ARN is of region ${topic[1]}, but the functions would be in ${options.region || region} (AWS_REGION)`);
  }
  const minutes = value("MBD_WATCHDOG_MINUTES");
  if (minutes && !(/^\d{1,6}(\.\d+)?$/.test(minutes) && 0 < minutes && minutes < 2880)) {
    problems.push("MBD_WATCHDOG_MINUTES is not a number of minutes above 0 and under 2880");
  }
  if (value("MBD_INSTANCE_ID") && !/^i-[0-9a-f]{8,17}$/.test(value("MBD_INSTANCE_ID"))) {
    problems.push("MBD_INSTANCE_ID is not the id of an EC2 instance (i-...)");
  }

  const name = `de-mbd-predict-${firstName}-${lastName}`.toLowerCase();
  const sourceBucket = value("MBD_SOURCE_BUCKET") || `${name}-s3-source`;
  const monitoredBucket = `${name}-monitored-bucket`;
  if (monitoredBucket.length > 63) {
    problems.push("first and last name are too long together: 30 letters fit into the name of a bucket");
  }
  if (sourceBucket === monitoredBucket) {
    problems.push("MBD_SOURCE_BUCKET is the monitored bucket: the pipeline would listen to its own output");
  }
  return {
    problems,
    name,
    owner: name.slice("de-mbd-predict-".length),
    firstName,
    lastName,
    topicArn,
    sourceBucket,
    monitoredBucket,
    region,
    transport,
    airflowUrl: transport === "http" ? value("AIRFLOW_URL") : "",
    certificateSha256,
    instanceId: value("MBD_INSTANCE_ID"),
    dryRun: value("MBD_TRIGGER_DRY_RUN"),
    watchdogMinutes: minutes,
    isCourse: value("MBD_PROFILE") === "course",
    hasReservedConcurrency: value("MBD_RESERVED_CONCURRENCY") !== "none",
  };
};
