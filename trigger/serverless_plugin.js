// Does what serverless.yml cannot: refuses a deployment with missing or wrong settings, drops the permissions that the
// transport does not need, packages without an AWS account, invokes once, and empties the monitored bucket before `remove`.

"use strict";

const fs = require("fs");

// A key may have characters that the request of DeleteObjects, which is XML, cannot carry: w3.org/TR/xml/#charsets
const NOT_IN_XML = /[^\t\n\r\x20-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/u;
const ARTIFACTS = ["trigger/.build/function.zip", "trigger/.build/layer.zip"];

module.exports = class TriggerPlugin {
  constructor(serverless, options, { log }) {
    this.serverless = serverless;
    this.log = log;
    this.hooks = {
      initialize: () => this.adapt(),
      "before:package:initialize": () => this.check(),
      "before:remove:remove": () => this.emptyMonitoredBucket(),
    };
  }

  get settings() {
    return this.serverless.service.custom;
  }

  get command() {
    return this.serverless.processedInput.commands[0];
  }

  adapt() {
    // Here, before AWS is called for the first time; and a stack with the example's names may be somebody else's.
    if (["deploy", "remove"].includes(this.command)) this.refuse();
    if (this.command === "invoke") this.invokeOnce();
    this.dropUnusedPermissions();
    if (this.settings.isCourse) this.openMonitoredBucket();
    if (!this.settings.hasReservedConcurrency) delete this.serverless.service.functions.trigger.reservedConcurrency;
    if (this.command === "package") {
      // This calls CloudFormation only to find out whether the same layer was uploaded before.
      const layers = this.serverless.pluginManager.plugins.find((one) => one.constructor.name === "AwsCompileLayers");
      layers.compareWithLastLayer = async () => {};
    }
  }

  // osls would stop waiting after two minutes and invoke again, four times; a function may take 15 minutes.
  invokeOnce() {
    process.env.AWS_CLIENT_TIMEOUT = "910000";
    process.env.SLS_AWS_REQUEST_MAX_RETRIES = "0";
  }

  // ssm:SendCommand is root on the instance.
  dropUnusedPermissions() {
    const { transport, instanceId } = this.settings;
    const unused = transport === "ssm" ? ["ssm:GetParameter"] : ["ssm:SendCommand", "ssm:GetCommandInvocation", "ssm:CancelCommand"];
    if (!instanceId) unused.push("ec2:StartInstances", "ec2:DescribeInstances", "ssm:SendCommand", "ssm:GetCommandInvocation", "ssm:CancelCommand");
    const { role } = this.serverless.service.provider.iam;
    for (const statement of role.statements) {
      statement.Action = [statement.Action].flat().filter((action) => !unused.includes(action));
    }
    role.statements = role.statements.filter((statement) => statement.Action.length);
  }

  // The course's brief asks for exactly this policy; by default the bucket is closed. Only the two blocks that would
  // refuse it are off. S3 takes a Sid with a blank, as its own examples have; IAM would not.
  openMonitoredBucket() {
    const { monitored } = this.serverless.service.provider.s3;
    const policy = this.serverless.service.resources.Resources.MonitoredBucketPolicy.Properties.PolicyDocument;
    Object.assign(monitored.publicAccessBlockConfiguration, { BlockPublicPolicy: false, RestrictPublicBuckets: false });
    policy.Statement = [
      {
        Sid: "Example permissions",
        Effect: "Allow",
        Principal: { AWS: "*" },
        Action: ["s3:GetBucketLocation", "s3:ListBucket", "s3:GetObject", "s3:PutObject"],
        Resource: policy.Statement[0].Resource,
      },
    ];
    monitored.lifecycleConfiguration.Rules[0].ExpirationInDays = 1; // whatever anybody puts there costs its owner
    this.log.warning(`profile course: everyone on the internet may put markers into ${monitored.name} and so start runs`);
  }

  check() {
    if (!this.settings.alarmSubscriptions.length) this.log.warning("MBD_EMAIL is not set: nobody gets the alarms about the functions");
    if (this.settings.problems.length) {
      this.log.warning(`packaged with example values; do not deploy this: ${this.settings.problems.join("; ")}`);
    }
    const missing = ARTIFACTS.filter((path) => !fs.existsSync(path));
    if (missing.length) throw this.error(`Not built yet: ${missing.join(" and ")}. Run: make package`);
  }

  refuse() {
    const problems = [...this.settings.problems, ...(this.command === "deploy" ? this.settings.deployProblems : [])];
    if (!problems.length) return;
    throw this.error(`${this.command}: nothing was done. Fix these in .env (.env.example explains each):\n  - ${problems.join("\n  - ")}`);
  }

  async emptyMonitoredBucket() {
    const provider = this.serverless.getProvider("aws");
    const Bucket = this.serverless.service.provider.s3.monitored.name;
    const { DeleteObjectCommand, DeleteObjectsCommand, ListObjectsV2Command, S3Client } = require("@aws-sdk/client-s3");
    const s3 = new S3Client({ ...(await provider.getAwsSdkV3Config()), forcePathStyle: true });
    let emptied = 0;
    for (;;) {
      let page;
      try {
        page = await s3.send(new ListObjectsV2Command({ Bucket, EncodingType: "url" }));
      } catch (error) {
        if (error.name === "NoSuchBucket") return;
        throw error;
      }
      const read = page.EncodingType === "url" ? (key) => decodeURIComponent(key.replaceAll("+", " ")) : (key) => key;
      const keys = (page.Contents || []).map(({ Key }) => read(Key));
      if (!keys.length) break;
      const Objects = keys.filter((Key) => !NOT_IN_XML.test(Key)).map((Key) => ({ Key }));
      for (const Key of keys.filter((key) => NOT_IN_XML.test(key))) await s3.send(new DeleteObjectCommand({ Bucket, Key }));
      if (Objects.length) {
        const { Errors } = await s3.send(new DeleteObjectsCommand({ Bucket, Delete: { Objects, Quiet: true } }));
        if (Errors?.length) throw this.error(`${Bucket}/${Errors[0].Key} could not be deleted: ${Errors[0].Message}`);
      }
      emptied += keys.length;
    }
    this.log.notice(`Removed ${emptied} markers from ${Bucket}`);
  }

  error(message) {
    return new this.serverless.classes.Error(message);
  }
};
