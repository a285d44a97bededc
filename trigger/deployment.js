// Derives the names and settings of serverless.yml (its `custom`) from the environment, which includes .env.
//
// A missing value is replaced by that of .env.example, so that `serverless package` works in a fresh clone. `deploy`
// refuses and lists all `problems` at once (see serverless_plugin.js). A setting that a function would refuse
// (settings.py, watchdog.py, expectation.py) is refused here by the same rule, because nobody notices a watchdog that fails each hour.

"use strict";

const NAME = /^[A-Za-z]+(-[A-Za-z]+)*$/; // as infra_scripts/names.py; tests/data/contracts/names.json has examples
const LONGEST_BUCKET_NAME = 63;
const FUNCTION_IN_STAGE = /(^|-)(trigger|report|watchdog|redrive)(-|$)/; // as infra_scripts/names.py, which would not find that stage

const REQUIRED = {
  MBD_FIRST_NAME: { example: "Ada", text: "your first name: part of bucket names and mail subjects" },
  MBD_LAST_NAME: { example: "Lovelace", text: "your last name: part of bucket names and mail subjects" },
  MBD_TOPIC_ARN: {
    example: "arn:aws:sns:eu-west-1:000000000000:de-mbd-predict-ada-lovelace-SNS",
    text: "the ARN of the SNS topic that mails go to",
  },
};

// The URL is never quoted, as it may hold a password.
const isServer = (text) => /^https?:\/\/[^/@?#\s][^@?#\s]*$/i.test(text) && URL.canParse(text) && new URL(text).port !== "0";

// As expectation.py; tests/data/contracts/expect_by.json has examples.
const DAY = "(mon|tue|wed|thu|fri|sat|sun)";
const EXPECT_BY = new RegExp(`^([01]?[0-9]|2[0-3]):[0-5][0-9]\\s+(daily|${DAY}(-${DAY})?(,${DAY}(-${DAY})?)*)\\s+([a-z][a-z0-9_+-]*(/[a-z0-9_+-]+)*)$`, "i");
const isTimeZone = (name) => {
  try {
    return Boolean(new Intl.DateTimeFormat("en", { timeZone: name }));
  } catch {
    return false;
  }
};
const isDay = (text) => {
  const day = /^[0-9]{4}-[0-9]{2}-[0-9]{2}$/.test(text) ? new Date(`${text}T00:00:00Z`) : new Date(NaN);
  return !Number.isNaN(day.getTime()) && day.toISOString().startsWith(text) && !text.startsWith("0000");
};

module.exports = ({ env = process.env, options = {} } = {}) => {
  const problems = [];
  const deployProblems = []; // what was deployed all the same can be removed
  const value = (name) => (env[name] || "").trim();
  const required = (name) => {
    if (!value(name)) problems.push(`${name} is not set (${REQUIRED[name].text})`);
    return value(name) || REQUIRED[name].example;
  };
  const requiredName = (variable) => {
    const name = required(variable);
    if (NAME.test(name)) return name;
    problems.push(`${variable} is ${JSON.stringify(name)}: use letters A to Z, with single hyphens inside`);
    return REQUIRED[variable].example; // else the Framework would stop at its own rules for names, and report nothing else
  };

  let [firstName, lastName] = [requiredName("MBD_FIRST_NAME"), requiredName("MBD_LAST_NAME")];
  const nameOf = () => `de-mbd-predict-${firstName}-${lastName}`.toLowerCase();
  const suffix = !options.stage || options.stage === "prod" ? "" : `-${options.stage}`; // as in serverless.yml
  if (FUNCTION_IN_STAGE.test(options.stage || "")) {
    deployProblems.push(`the stage ${JSON.stringify(options.stage)} has the name of a function: choose another one, as teardown would not find it`);
  }
  const excess = `${nameOf()}-monitored-bucket${suffix}`.length - LONGEST_BUCKET_NAME;
  if (excess > 0) {
    problems.push(`first and last name together are ${excess} characters too long for the name of the monitored bucket`);
    [firstName, lastName] = [REQUIRED.MBD_FIRST_NAME.example, REQUIRED.MBD_LAST_NAME.example];
  }
  const region = value("AWS_REGION") || "eu-west-1";
  const topicArn = required("MBD_TOPIC_ARN");
  const transport = value("MBD_TRANSPORT") || (value("AIRFLOW_URL") ? "http" : "ssm");
  if (!["http", "ssm"].includes(transport)) problems.push("MBD_TRANSPORT is neither http nor ssm");
  if (transport === "http" && !value("AIRFLOW_URL")) problems.push("MBD_TRANSPORT is http, but AIRFLOW_URL is not set");
  if (transport === "http" && value("AIRFLOW_URL") && !isServer(value("AIRFLOW_URL"))) {
    problems.push("AIRFLOW_URL is not the address of a web server: use http:// or https://, host and port, no user and no query");
  }
  const certificateSha256 = value("AIRFLOW_CERTIFICATE_SHA256");
  if (certificateSha256 && !/^[0-9a-f]{64}$/i.test(certificateSha256.replaceAll(":", ""))) {
    problems.push("AIRFLOW_CERTIFICATE_SHA256 is not a SHA-256 fingerprint (64 hex digits)");
  } else if (certificateSha256 && transport === "http" && /^http:/i.test(value("AIRFLOW_URL"))) {
    problems.push("AIRFLOW_CERTIFICATE_SHA256 pins a certificate, but AIRFLOW_URL is plain http, which has none");
  }
  if (transport === "ssm" && !value("MBD_INSTANCE_ID")) {
    problems.push("neither AIRFLOW_URL (to call Airflow by HTTP) nor MBD_INSTANCE_ID (to call it by SSM) is set");
  }
  const topic = /^arn:[\w-]+:sns:([\w-]+):\d{12}:[\w-]+$/.exec(topicArn);
  if (!topic) problems.push("MBD_TOPIC_ARN is not the ARN of an SNS topic");
  else if (value("MBD_TOPIC_ARN") && topic[1] !== (options.region || region)) {
    problems.push(`MBD_TOPIC_ARN is in region ${topic[1]}, but the functions would be in ${options.region || region} (AWS_REGION)`);
  }
  const isCourse = value("MBD_PROFILE") === "course";
  const minutes = value("MBD_WATCHDOG_MINUTES");
  const longest = isCourse ? 1260 : 2700; // three hours less than the watchdog looks back, or than a marker is kept (serverless_plugin.js)
  if (minutes && !(/^\d{1,6}(\.\d+)?$/.test(minutes) && 0 < minutes && minutes <= longest)) {
    problems.push(`MBD_WATCHDOG_MINUTES is not a number of minutes above 0 and up to ${longest}`);
  }
  const expectBy = value("MBD_EXPECT_BY");
  if (expectBy && !(EXPECT_BY.test(expectBy) && isTimeZone(expectBy.split(/\s+/)[2]))) {
    problems.push(`MBD_EXPECT_BY is ${JSON.stringify(expectBy)}: use a time, weekdays and a time zone, such as 18:30 Mon-Fri Europe/Berlin`);
  }
  const holidays = value("MBD_HOLIDAYS").split(/[\s,]+/).filter(Boolean);
  const noDays = holidays.filter((text) => !isDay(text));
  if (noDays.length) problems.push(`MBD_HOLIDAYS has ${JSON.stringify(noDays[0])}: use days such as 2026-12-25 2027-01-01`);
  if (value("MBD_INSTANCE_ID") && !/^i-[0-9a-f]{8,17}$/.test(value("MBD_INSTANCE_ID"))) {
    problems.push("MBD_INSTANCE_ID is not the id of an EC2 instance (i-...)");
  }

  const name = nameOf();
  const sourceBucket = value("MBD_SOURCE_BUCKET") || `${name}-s3-source`;
  const monitoredBucket = `${name}-monitored-bucket`;
  if (sourceBucket === monitoredBucket + suffix) {
    problems.push("MBD_SOURCE_BUCKET is the monitored bucket: the pipeline would listen to its own output");
  }
  return {
    problems,
    deployProblems,
    name,
    owner: name.slice("de-mbd-predict-".length),
    firstName,
    lastName,
    topicArn,
    sourceBucket,
    monitoredBucket,
    alarmSubscriptions: value("MBD_EMAIL") ? [{ Protocol: "email", Endpoint: value("MBD_EMAIL") }] : [],
    region,
    transport,
    airflowUrl: transport === "http" ? value("AIRFLOW_URL") : "",
    certificateSha256,
    instanceId: value("MBD_INSTANCE_ID"),
    dryRun: value("MBD_TRIGGER_DRY_RUN"),
    watchdogMinutes: minutes,
    expectBy,
    holidays: holidays.join(" "),
    isCourse,
    hasReservedConcurrency: !["", "none"].includes(value("MBD_RESERVED_CONCURRENCY")),
  };
};
