//! Partitions of AWS: a template for one of them has its name in ARNs and links, and works in no other.

use serde_json::Value;

use super::{Faults, Rule};
use crate::{
    project::{File, Project, edit, edit_in},
    template::{fields, nodes},
};

pub(crate) const RULES: &[Rule] = &[Rule {
    name: "nothing names one partition of AWS",
    check: any_partition,
    breaks: &[
        edit("arn:${AWS::Partition}:sqs:${AWS::Region}", "arn:aws:sqs:${AWS::Region}"),
        edit(
            "!Sub arn:${AWS::Partition}:iam::aws:policy/AWSXRayDaemonWriteAccess",
            "arn:aws:iam::aws:policy/AWSXRayDaemonWriteAccess",
        ),
        edit("      - ${Console}/cloudwatch", "      - https://console.aws.amazon.com/cloudwatch"),
        edit("{DefaultValue: \"\"}]", "]"),
        edit_in(File::Dashboard, "title: Latency of a record (s)", "title: https://sqs.us-east-1.amazonaws.com"),
    ],
}];

/// What differs from one partition to another.
const FIXED: [&str; 4] = ["arn:aws:", "amazonaws.com", "aws.amazon.com", "amazonaws.cn"];

/// Services are principals under one name everywhere, and `Partitions` is the table of what has another name in each.
fn any_partition(project: &Project, faults: &mut Faults) {
    let sections = ["Parameters", "Conditions", "Globals", "Resources", "Outputs"];
    let sections = sections.map(|section| project.template.section(section));
    for root in sections.into_iter().chain(project.nested.values().map(AsRef::as_ref)) {
        for text in texts(root) {
            let fixed = FIXED.into_iter().find(|fixed| text.contains(fixed));
            let fault =
                format!("{text:?} holds in one partition alone: take AWS::Partition, AWS::URLSuffix or Partitions");
            faults.unless(fixed.is_none(), fault);
        }
    }
    for found in nodes(project.template.section("Outputs")).into_iter().filter_map(|node| node.get("Fn::FindInMap")) {
        let by_partition = found[1]["Ref"] == "AWS::Partition";
        let fault =
            format!("{found}: give it a DefaultValue, or the stack can't be made in a partition that is not listed");
        faults.unless(!by_partition || found[3]["DefaultValue"].is_string(), fault);
    }
}

/// Every text but those of principals.
fn texts(node: &Value) -> Vec<&str> {
    let inner = fields(node).into_iter().filter(|(key, _)| *key != "Principal").map(|(_, value)| value);
    let inner = inner.chain(node.as_array().into_iter().flatten());
    node.as_str().into_iter().chain(inner.flat_map(texts)).collect()
}
