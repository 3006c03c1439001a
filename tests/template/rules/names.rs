//! Names: how long the stack's own may be, since most others begin with it.

use super::{Faults, Rule, stages};
use crate::{
    project::{File, Project, edit, edit_in},
    template::Template,
};

pub(crate) const RULES: &[Rule] = &[Rule {
    name: "each stage's stack, and the page about deployment, know how long its name may be",
    check: names_fit,
    breaks: &[
        edit(
            "FunctionName: !Sub ${AWS::StackName}-payment-failed",
            "FunctionName: !Sub ${AWS::StackName}-payment-failed-function",
        ),
        edit_in(
            File::Stages,
            "stack_name = \"holdfast-staging\"",
            "stack_name = \"holdfast-staging-of-the-ticket-shop-in-the-north\"",
        ),
        edit_in(File::Deploying, "41 characters", "43 characters"),
    ],
}];

/// The longest names that AWS takes: https://docs.aws.amazon.com/general/latest/gr/aws-service-information.html leads to
/// each service's quotas.
const LONGEST: [(&str, usize); 6] = [
    ("FunctionName", 64),
    ("QueueName", 80),
    ("AlarmName", 255),
    ("DashboardName", 255),
    ("Name", 128), // Of the API; a bus may have 256.
    ("LogGroupName", 512),
];

const STACK_NAME: &str = "${AWS::StackName}";

/// How long the stack's name may be, and what limits it.
fn longest(template: &Template) -> Option<(usize, String)> {
    let mut limits = Vec::new();
    for resource in template.resources() {
        for (property, limit) in LONGEST {
            let name = &resource.properties[property]["Fn::Sub"];
            let Some(name) = name.as_str().filter(|name| name.contains(STACK_NAME)) else { continue };
            let rest = name.replace(STACK_NAME, "").len();
            limits.push((limit.saturating_sub(rest), resource.id.to_owned()));
        }
    }
    limits.into_iter().min()
}

fn names_fit(project: &Project, faults: &mut Faults) {
    let Some((longest, by)) = longest(&project.template) else {
        faults.add("no resource is named after the stack");
        return;
    };
    let says = project.pages.deploying.contains(&format!("{longest} characters"));
    faults.unless(
        says,
        format!(".template/README.md: say that the stack's name may have {longest} characters, because of {by}"),
    );
    for (stage, settings) in stages::stages(project) {
        let name = stages::stack_name(settings).unwrap_or_default();
        let fault = format!("{stage}: its stack_name has {} characters, and {by} leaves {longest}", name.len());
        faults.unless(name.len() <= longest, fault);
    }
}
