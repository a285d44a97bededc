// The environment (.env) goes in; the names and settings of serverless.yml come out, as `custom`.
//
// What is missing gets the value of .env.example, so that `serverless package` can be tried in a fresh clone; `deploy`
// refuses (see serverless_plugin.js), naming everything in `problems` at once.

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

module.exports = ({ env = process.env } = {}) => {
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
  const topicArn = required("MBD_TOPIC_ARN");
  const transport = value("MBD_TRANSPORT") || (value("AIRFLOW_URL") ? "http" : "ssm");
  if (!["http", "ssm"].includes(transport)) problems.push("MBD_TRANSPORT is neither http nor ssm");
  if (transport === "http" && !value("AIRFLOW_URL")) problems.push("MBD_TRANSPORT is http, but AIRFLOW_URL is not set");
  if (transport === "ssm" && !value("MBD_INSTANCE_ID")) {
    problems.push("neither AIRFLOW_URL (Airflow's address) nor MBD_INSTANCE_ID (then SSM carries the command) is set");
  }
  if (!/^arn:[\w-]+:sns:[\w-]+:\d{12}:[\w-]+$/.test(topicArn)) problems.push("MBD_TOPIC_ARN is not the ARN of an SNS topic");
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
    region: value("AWS_REGION") || "eu-west-1",
    airflowUrl: transport === "http" ? value("AIRFLOW_URL") : "",
    certificateSha256: value("AIRFLOW_CERTIFICATE_SHA256"),
    instanceId: value("MBD_INSTANCE_ID"),
    dryRun: value("MBD_TRIGGER_DRY_RUN"),
    watchdogMinutes: value("MBD_WATCHDOG_MINUTES"),
    isCourse: value("MBD_PROFILE") === "course",
    hasReservedConcurrency: value("MBD_RESERVED_CONCURRENCY") !== "none",
  };
};
