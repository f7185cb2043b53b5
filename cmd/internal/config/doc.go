// Package config says what can be set, what it is when nobody says, and what is
// refused: the YAML file's schema, the environment that govc and systemd set,
// defaults and checks. Start with [Load].
//
// Three layers, the later one wins: the file, the environment, the flags. This
// package knows the first two; the program hands in the third as functions that
// change the value. Nothing here connects to anything, and nothing here imports
// another package of the project: the wiring translates.
//
// The AWS side follows the SDK's own environment (AWS_PROFILE, AWS_REGION,
// AWS_ENDPOINT_URL_EBS, …): what this package leaves empty, the SDK finds.
//
// A password lives in a [Secret], which prints as "[secret]" in every form.
package config
