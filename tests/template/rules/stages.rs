//! The stages of `samconfig.toml`: that each says all it must, about parameters that exist.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Faults, Rule};
use crate::{
    evaluate::Stack,
    project::{File, Project, edit, edit_in},
    template::{fields, items, number},
};

pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "the four stages are there, each with a stack of its own",
        check: stages_are_there,
        breaks: &[
            edit_in(File::Stages, "[staging.deploy.parameters]", "[stage.deploy.parameters]"),
            edit_in(File::Stages, "stack_name = \"holdfast-staging\"", "stack_name = \"holdfast\""),
            edit_in(File::Stages, "stack_name = \"holdfast-staging\"\n", ""),
            edit_in(File::Stages, "\"Environment=staging\"", "\"Environment=prod\""),
            edit_in(File::Stages, "tags = \"Project=holdfast Environment=prod\"", "tags = \"Project=holdfast\""),
        ],
    },
    Rule {
        name: "a stage gives parameters that exist, values that they allow",
        check: parameters_exist,
        breaks: &[
            edit_in(File::Stages, "\"MaximumConcurrency=300\"", "\"MaxConcurrency=300\""),
            edit_in(File::Stages, "\"LogRetentionDays=90\"", "\"LogRetentionDays=91\""),
            edit_in(File::Stages, "\"LogLevel=debug\"", "\"LogLevel=loud\""),
            edit_in(File::Stages, "\"Architecture=x86_64\"]", "\"Processor=x86_64\"]"),
            edit_in(File::Stages, "    \"InventoryGrpcAddr=inventory.dev.internal:8021\",\n", ""),
            edit("AllowedValues: [dev, staging, prod, local]", "AllowedValues: [dev, staging, prod]"),
        ],
    },
    Rule {
        name: "only prod asks before it changes anything",
        check: only_prod_asks,
        breaks: &[
            edit_in(File::Stages, "confirm_changeset = true", "confirm_changeset = false"),
            edit_in(File::Stages, "confirm_changeset = false", "confirm_changeset = true"),
        ],
    },
    Rule {
        name: "prod shows nobody the document of its API",
        check: prod_hides_the_document,
        breaks: &[
            edit_in(File::Stages, "\"ApiDocs=false\"", "\"ApiDocs=true\""),
            edit_in(File::Stages, "    \"ApiDocs=false\",\n", ""),
        ],
    },
    Rule {
        name: "a stage lets SAM do what the template needs",
        check: template_can_be_transformed,
        breaks: &[
            edit_in(File::Stages, "\"CAPABILITY_IAM\", ", ""),
            edit_in(File::Stages, ", \"CAPABILITY_AUTO_EXPAND\"", ""),
            edit_in(File::Stages, "language_extensions = true", "language_extensions = false"),
            edit_in(File::Stages, "stack_name = \"holdfast\"\nlanguage_extensions = true", "stack_name = \"holdfast\""),
            edit(
                "  - AWS::LanguageExtensions\n  - AWS::Serverless-2016-10-31",
                "  - AWS::Serverless-2016-10-31\n  - AWS::LanguageExtensions",
            ),
        ],
    },
    Rule {
        name: "a stage builds what its sources say now",
        check: built_anew,
        breaks: &[
            edit_in(File::Stages, "cached = false", "cached = true"),
            edit_in(File::Stages, "[prod.build.parameters]\ncached = false\n", "[prod.build.parameters]\n"),
        ],
    },
    Rule {
        name: "what is built locally is what is deployed locally",
        check: one_architecture,
        breaks: &[
            edit_in(File::Stages, "[\"Architecture=x86_64\"]", "[\"Architecture=arm64\"]"),
            edit_in(File::Stages, "    \"Architecture=x86_64\",\n", ""),
        ],
    },
];

/// The commands that read the template.
const COMMANDS: [&str; 3] = ["build", "validate", "deploy"];

/// `default` is what SAM takes where no stage is chosen: dev.
const STAGES: [(&str, &str); 4] = [("default", "dev"), ("staging", "staging"), ("prod", "prod"), ("local", "local")];

/// The stages, by name.
pub(super) fn stages(project: &Project) -> Vec<(&str, &Value)> {
    fields(&project.stages).into_iter().filter(|(_, stage)| stage.is_object()).collect()
}

/// What a command of SAM is told in a stage: what the stage tells every command, unless the command itself is told.
fn told<'p>(stage: &'p Value, command: &str, name: &str) -> &'p Value {
    let own = &stage[command]["parameters"][name];
    if own.is_null() { &stage["global"]["parameters"][name] } else { own }
}

/// The stack that a stage is deployed to.
pub(super) fn stack_name(stage: &Value) -> Option<&str> {
    told(stage, "deploy", "stack_name").as_str()
}

/// The values that a command gives to parameters of the template.
pub(super) fn overrides<'p>(stage: &'p Value, command: &str) -> Vec<(&'p str, &'p str)> {
    let pairs = items(told(stage, command, "parameter_overrides"));
    pairs.into_iter().filter_map(|pair| pair.as_str()?.split_once('=')).collect()
}

fn stages_are_there(project: &Project, faults: &mut Faults) {
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, stage) in stages(project) {
        let stack = stack_name(stage);
        faults.unless(stack.is_some(), format!("{name}: it deploys nothing, or to no stack_name"));
        if let Some(other) = stack.and_then(|stack| owners.insert(stack, name)) {
            faults.add(format!("{name}: its stack_name is that of {other}"));
        }
    }
    for (name, environment) in STAGES {
        let stage = &project.stages[name];
        let given = overrides(stage, "deploy").contains(&("Environment", environment));
        let tag = format!("Environment={environment}");
        let tags = told(stage, "deploy", "tags").as_str().unwrap_or_default();
        let tagged = tags.split(' ').any(|other| other == tag);
        faults.unless(given && tagged, format!("{name}: it must be there, with {tag} as parameter and as tag"));
    }
}

/// It tells an attacker what there is; that the default is off is not what a stage should rest on.
fn prod_hides_the_document(project: &Project, faults: &mut Faults) {
    let given = overrides(&project.stages["prod"], "deploy").contains(&("ApiDocs", "false"));
    faults.unless(given, "prod: ApiDocs must be false");
}

fn parameters_exist(project: &Project, faults: &mut Faults) {
    let parameters = project.template.section("Parameters");
    for (name, stage) in stages(project) {
        for command in COMMANDS {
            for (parameter, value) in overrides(stage, command) {
                if let Err(fault) = allowed(&parameters[parameter], value) {
                    faults.add(format!("{name}.{command}: {parameter}={value}: {fault}"));
                }
            }
        }
        let stack = Stack::new(&project.template, &overrides(stage, "deploy"));
        if let Err(refusal) = stack.is_accepted() {
            faults.add(format!("{name}: CloudFormation refuses it: {refusal}"));
        }
    }
}

/// Whether a parameter takes a value, as far as its lists and limits say.
fn allowed(parameter: &Value, value: &str) -> Result<(), String> {
    if parameter.is_null() {
        return Err("the template has no such parameter".to_owned());
    }
    let listed = items(&parameter["AllowedValues"]);
    let is = |allowed: &&Value| {
        allowed.as_str() == Some(value) || number(allowed).is_some_and(|number| value.parse() == Ok(number))
    };
    if !listed.is_empty() && !listed.iter().any(is) {
        return Err(format!("it must be one of {}", parameter["AllowedValues"]));
    }
    if parameter["Type"] == "Number" {
        let value = value.parse::<u64>().map_err(|error| error.to_string())?;
        let least = number(&parameter["MinValue"]).unwrap_or(0);
        let most = number(&parameter["MaxValue"]).unwrap_or(u64::MAX);
        if !(least..=most).contains(&value) {
            return Err(format!("it must be from {least} to {most}"));
        }
    }
    Ok(())
}

fn only_prod_asks(project: &Project, faults: &mut Faults) {
    for (name, stage) in stages(project) {
        let asks = name == "prod";
        let told = told(stage, "deploy", "confirm_changeset");
        faults.unless(*told == asks, format!("{name}: set confirm_changeset to {asks}"));
    }
}

/// The template makes roles, and loops that make resources. SAM unrolls the loops itself before it builds, and they
/// must be unrolled before its own macro looks for functions.
fn template_can_be_transformed(project: &Project, faults: &mut Faults) {
    for (name, stage) in stages(project) {
        for command in COMMANDS {
            let on = *told(stage, command, "language_extensions") == true;
            faults.unless(on, format!("{name}.{command}: set language_extensions"));
        }
        let capabilities = items(told(stage, "deploy", "capabilities"));
        for capability in ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"] {
            let given = capabilities.iter().any(|given| **given == capability);
            faults.unless(given, format!("{name}.deploy: add {capability} to capabilities"));
        }
    }
    let order = json!(["AWS::LanguageExtensions", "AWS::Serverless-2016-10-31"]);
    faults.unless(*project.template.section("Transform") == order, format!("Transform must be {order}"));
}

/// SAM's cache is known by the function's own folder alone. Code that changed in `shared/` would not be built, and the old
/// one deployed without a word. It is off unless it is asked for, and said here, so that nobody asks for it.
fn built_anew(project: &Project, faults: &mut Faults) {
    for (name, stage) in stages(project) {
        let off = *told(stage, "build", "cached") == false;
        faults.unless(off, format!("{name}.build: set cached to false, or changes in shared/ are not deployed"));
    }
}

/// A binary of the other architecture is deployed without a fault, and then does not start.
fn one_architecture(project: &Project, faults: &mut Faults) {
    for (name, stage) in stages(project) {
        let architecture = |command| {
            let chosen = overrides(stage, command).into_iter().find(|(parameter, _)| *parameter == "Architecture");
            chosen.map(|(_, value)| value)
        };
        let (built, deployed) = (architecture("build"), architecture("deploy"));
        let fault = format!("{name}: it builds for {built:?} and deploys {deployed:?}; give both one Architecture");
        faults.unless(built == deployed, fault);
    }
}
