"""The CloudFormation template and everything that makes, describes or removes what it creates."""
