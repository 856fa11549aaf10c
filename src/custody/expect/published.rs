//! Names that were published with the beginning of their digest, which the publisher's own loader checks: another file of
//! such a name is damaged or foreign. What others call their files may only look like one.

/// torchvision 0.29.2: what its models load with `get_state_dict(check_hash=True)`, without `.pth`. Several EfficientNets went by a
/// wrong digest before (vision issue 7744); those older names are not among these.
const TORCHVISION: &str = "\
    alexnet-owt-7be5be79 convnext_base-6075fbad convnext_large-ea097f82 convnext_small-0c510722 \
    convnext_tiny-983f1562 deeplabv3_mobilenet_v3_large-fc3c493d deeplabv3_resnet101_coco-586e9e4e \
    deeplabv3_resnet50_coco-cd0a2569 densenet121-a639ec97 densenet161-8d451a50 densenet169-b2777c0a \
    densenet201-c1103571 efficientnet_b0_rwightman-7f5810bc efficientnet_b1-c27df63c \
    efficientnet_b1_rwightman-bac287d4 efficientnet_b2_rwightman-c35c1473 efficientnet_b3_rwightman-b3899882 \
    efficientnet_b4_rwightman-23ab8bcd efficientnet_b5_lukemelas-1a07897c efficientnet_b6_lukemelas-24a108a5 \
    efficientnet_b7_lukemelas-c5b4e57e efficientnet_v2_l-59c71312 efficientnet_v2_m-dc08266a \
    efficientnet_v2_s-dd5fe13b fasterrcnn_mobilenet_v3_large_320_fpn-907ea3f9 \
    fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7 fasterrcnn_resnet50_fpn_coco-258fb6c6 \
    fasterrcnn_resnet50_fpn_v2_coco-dd69338a fcn_resnet101_coco-7ecb50ca fcn_resnet50_coco-1167a1af \
    fcos_resnet50_fpn_coco-99b0c9b7 googlenet-1378be20 googlenet_fbgemm-c81f6644 inception_v3_google-0cc3c7bd \
    inception_v3_google_fbgemm-a2837893 keypointrcnn_resnet50_fpn_coco-9f466800 \
    keypointrcnn_resnet50_fpn_coco-fc266e95 lraspp_mobilenet_v3_large-d234d4ea maskrcnn_resnet50_fpn_coco-bf2d0c1e \
    maskrcnn_resnet50_fpn_v2_coco-73cbd019 maxvit_t-bc5ab103 mc3_18-a90a0ba3 mnasnet0.5_top1_67.823-3ffadce67e \
    mnasnet0_75-7090bc5f mnasnet1.0_top1_73.512-f206786ef8 mnasnet1_3-a4c69d6f mobilenet_v2-7ebf99e0 \
    mobilenet_v2-b0353104 mobilenet_v3_large-5c1a4163 mobilenet_v3_large-8738ca79 \
    mobilenet_v3_large_qnnpack-5bcacf28 mobilenet_v3_small-047dcff4 mvit_v1_b-dbeb1030 mvit_v2_s-ae3be167 \
    r2plus1d_18-91a641e6 r3d_18-b3b3357e raft_large_C_T_SKHT_K_V1-4a6a5039 raft_large_C_T_SKHT_K_V2-b5c70766 \
    raft_large_C_T_SKHT_V1-0b8c9e55 raft_large_C_T_SKHT_V2-ff5fadd5 raft_large_C_T_V1-22a6c225 \
    raft_large_C_T_V2-1bb1363a raft_small_C_T_V1-ad48884c raft_small_C_T_V2-01064c6d regnet_x_16gf-2007eb11 \
    regnet_x_16gf-ba3796d7 regnet_x_1_6gf-a12f2b72 regnet_x_1_6gf-e3633e7f regnet_x_32gf-6eb8fdc6 \
    regnet_x_32gf-9d47f8d0 regnet_x_3_2gf-7071aa85 regnet_x_3_2gf-f342aeae regnet_x_400mf-62229a5f \
    regnet_x_400mf-adf1edd5 regnet_x_800mf-94a99ebd regnet_x_800mf-ad17e45c regnet_x_8gf-03ceed89 \
    regnet_x_8gf-2b70d774 regnet_y_128gf_lc_swag-cbe8ce12 regnet_y_128gf_swag-c8ce3e52 regnet_y_16gf-3e4a00f9 \
    regnet_y_16gf-9e6ed7dd regnet_y_16gf_lc_swag-f3ec0043 regnet_y_16gf_swag-43afe44d regnet_y_1_6gf-0d7bc02a \
    regnet_y_1_6gf-b11a554e regnet_y_32gf-4dee3f7a regnet_y_32gf-8db6d4b5 regnet_y_32gf_lc_swag-e1583746 \
    regnet_y_32gf_swag-04fdfa75 regnet_y_3_2gf-9180c971 regnet_y_3_2gf-b5a9779c regnet_y_400mf-c65dace8 \
    regnet_y_400mf-e6988f5f regnet_y_800mf-1b27b58c regnet_y_800mf-58fc7688 regnet_y_8gf-d0d0e4a8 \
    regnet_y_8gf-dc2b1b54 resnet101-63fe2227 resnet101-cd907fc2 resnet152-394f9c45 resnet152-f82ba261 \
    resnet18-f37072fd resnet34-b627a593 resnet50-0676ba61 resnet50-11ad3fa6 resnet50_fbgemm-23753f79 \
    resnext101_32x8_fbgemm-ee16d00c resnext101_32x8d-110c445d resnext101_32x8d-8ba56ff5 resnext101_64x4d-173b62eb \
    resnext101_64x4d_fbgemm-605a1cb3 resnext50_32x4d-1a0047aa resnext50_32x4d-7cdf4587 \
    retinanet_resnet50_fpn_coco-eeacb38b retinanet_resnet50_fpn_v2_coco-5905b1c5 s3d-d76dad2f \
    shufflenetv2_x0.5-f707e7126e shufflenetv2_x0.5_fbgemm-00845098 shufflenetv2_x1-5666bf0f80 \
    shufflenetv2_x1_5-3c479a10 shufflenetv2_x1_5_fbgemm-d7401f05 shufflenetv2_x1_fbgemm-1e62bb32 \
    shufflenetv2_x2_0-8be3c8ee shufflenetv2_x2_0_fbgemm-5cac526c squeezenet1_0-b66bff10 squeezenet1_1-b8a52dc0 \
    ssd300_vgg16_coco-b556d3b4 ssdlite320_mobilenet_v3_large_coco-a79551df swin3d_b_1k-24f7c7c6 \
    swin3d_b_22k-7c6ae6fa swin3d_s-da41c237 swin3d_t-7615ae03 swin_b-68c6b09e swin_s-5e29d889 swin_t-704ceda3 \
    swin_v2_b-781e5279 swin_v2_s-637d8ceb swin_v2_t-b137f0e2 vgg11-8a719046 vgg11_bn-6002323d vgg13-19584684 \
    vgg13_bn-abd245e5 vgg16-397923af vgg16_bn-6c64b313 vgg16_features-amdegroot-88682ab5 vgg19-dcbb9e9d \
    vgg19_bn-c79401a0 vit_b_16-c867db91 vit_b_16_lc_swag-4e70ced5 vit_b_16_swag-9ac1b537 vit_b_32-d86f8d99 \
    vit_h_14_lc_swag-c1eb923e vit_h_14_swag-80465313 vit_l_16-852ce7e3 vit_l_16_lc_swag-4d563306 \
    vit_l_16_swag-4f3808c9 vit_l_32-c7638314 wide_resnet101_2-32ee1156 wide_resnet101_2-d733dc28 \
    wide_resnet50_2-95faca4d wide_resnet50_2-9ba9bcbe";

/// Segment Anything: the beginning of an MD5.
const SEGMENT_ANYTHING: &str = "sam_vit_b_01ec64 sam_vit_h_4b8939 sam_vit_l_0b3195";

/// Whether a file has a published name.
pub(super) fn is_published(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(".pth") else { return false };
    [TORCHVISION, SEGMENT_ANYTHING].iter().any(|names| names.split(' ').any(|known| known == stem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_names_are_whole() {
        for name in
            ["alexnet-owt-7be5be79.pth", "wide_resnet50_2-9ba9bcbe.pth", "shufflenetv2_x0.5-f707e7126e.pth"]
        {
            assert!(is_published(name), "{name}");
        }
        for name in ["resnet18-f37072fd", "resnet18-f37072fd.pt", "resnet18-f37072f.pth", ".pth", " .pth"] {
            assert!(!is_published(name), "{name}");
        }
        // The table has one space between its names.
        assert!(TORCHVISION.split(' ').all(|name| name.contains('-')));
        assert_eq!(TORCHVISION.split(' ').count(), 162);
    }
}
